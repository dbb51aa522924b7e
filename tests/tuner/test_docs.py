"""The documents name what is in the code: every outcome with its advice, every finding, every key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

import phase8_tune
from phase8_tune.tuner.doctor import rules
from phase8_tune.tuner.doctor.facts import (
    Diagnosis,
    Facts,
    Finding,
    Holder,
    KernelFacts,
    Kind,
    NvmlFacts,
    Probe,
    RangeMiss,
    RunsFolder,
    WslFacts,
)
from phase8_tune.tuner.measuring import memory, monitor, worker_measurer
from phase8_tune.tuner.values.measurement import DeviceInfo, Versions
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.timing import MINIMUM_SAMPLES
from phase8_tune.tuner.worker import cuda_accounting, sample_statistics

ROOT = Path(phase8_tune.__file__).resolve().parent
DOCS = ROOT / "docs"

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="phase8_tune is installed without its sources")
MIB = 1 << 20


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def rows(text: str) -> dict[str, str]:
    """The tables' rows by their first cell, of which every name in backticks counts."""
    found = {}
    for line in text.splitlines():
        if line.startswith("|"):
            first, _, rest = line.strip("|").partition("|")
            found.update(dict.fromkeys(re.findall(r"`([^`]+)`", first), rest))
    return found


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_with_its_advice(outcome: Outcome) -> None:
    row = rows(read("measurement.md"))[outcome]
    assert outcome.advice in row
    assert ("does not fit" in row.split("|")[-1]) is outcome.is_memory
    assert ("up to 3 times" in row.split("|")[-1]) is outcome.is_retried


def test_every_line_of_the_ledger_and_every_source() -> None:
    text = read("measurement.md")
    assert {"context", "reserved", "other", "margin", "process", "trial"} <= rows(text).keys()
    for source in ("nvml process used", "nvml device used - baseline", "cudaMemGetInfo used - baseline"):
        assert f"`{source}`" in text
        assert f'"{source}"' in Path(memory.__file__).read_text(encoding="utf-8")
    for name in cuda_accounting._PEAKS:
        assert f"`{name}_peak`" in text


def test_figures_are_the_codes() -> None:
    text = " ".join(read("measurement.md").split())
    assert f"every {monitor.INTERVAL_S * 1000:.0f} ms" in text
    assert f"more than {memory.DRIFT_BYTES // MIB} MiB" in text
    assert f"more than {memory.UNEXPLAINED_BYTES // MIB} MiB that nothing explains" in text
    assert f"{memory.HOST_TOLERANCE} × the budget + {memory.HOST_SLACK_BYTES // MIB} MiB" in text
    assert f"at least {memory.PINNED * 100:.0f} % full" in text
    assert f"within {sample_statistics.PRECISE_ENOUGH * 100:.0f} % of the mean" in text
    assert MINIMUM_SAMPLES == 5
    assert "From the fifth sample on" in text
    assert f"started {worker_measurer.START_TRIES} times in a row" in text


@pytest.mark.parametrize("kind", list(Kind))
def test_every_finding_with_its_severity(kind: Kind) -> None:
    severity = rows(read("doctor.md"))[kind].split("|")[0].strip()
    source = Path(rules.__file__).read_text(encoding="utf-8")
    assert re.search(rf'Kind\.{kind.name}\b[^"]*"{severity}"', source)


@pytest.mark.parametrize("model", [Diagnosis, Facts])
def test_every_key_of_the_object(model: type[BaseModel]) -> None:
    assert model.model_fields.keys() - rows(read("doctor.md")).keys() == set()


@pytest.mark.parametrize(
    "model",
    [DeviceInfo, Versions, Finding, Probe, KernelFacts, NvmlFacts, Holder, WslFacts, RunsFolder, RangeMiss],
)
def test_every_key_inside(model: type[BaseModel]) -> None:
    text = read("doctor.md")
    assert [key for key in model.model_fields if f"`{key}`" not in text] == []


def test_links_lead_somewhere() -> None:
    for path in (ROOT / "README.md", *DOCS.glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"docs/{path.name}" in readme for path in DOCS.glob("*.md"))
