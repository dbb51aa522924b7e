"""The doctor on a real GPU: what it says is so, and a study would run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from phase8_tune.tuner.doctor.diagnosis import diagnose
from phase8_tune.tuner.doctor.facts import Diagnosis
from phase8_tune.tuner.doctor.gather import gather_facts
from phase8_tune.tuner.values.outcome import Outcome

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.xdist_group("doctor"),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    return diagnose(gather_facts(runs_dir=tmp_path_factory.mktemp("runs")))


def test_training_works(found: Diagnosis) -> None:
    assert [finding for finding in found.findings if finding.severity == "error"] == []
    assert (found.training_on_gpu, found.exit_code, found.measuring_on) == (True, 0, "cuda")
    assert found.facts.trial is not None
    assert found.facts.trial.outcome in (Outcome.OK, Outcome.INTERFERENCE)


def test_the_card_is_torchs_first(found: Diagnosis) -> None:
    assert found.facts.device.name == torch.cuda.get_device_name(0)
    assert found.facts.device.total_bytes == torch.cuda.get_device_properties(0).total_memory
    assert found.environment["CUDA"] == torch.version.cuda


def test_triton_compiled_and_ran(found: Diagnosis) -> None:
    assert found.facts.triton.works is True
    assert found.facts.expandable_segments.works is not None


def test_the_memory_source_is_a_step_of_the_ladder(found: Diagnosis) -> None:
    steps = ("nvml process used", "nvml device used", "cudaMemGetInfo used", "torch reserved peak")
    assert any(step in str(found.memory_source) for step in steps)


def test_it_can_be_written_and_read_back(found: Diagnosis, tmp_path: Path) -> None:
    path = tmp_path / "doctor.json"
    path.write_text(found.model_dump_json())
    assert Diagnosis.model_validate_json(path.read_text()) == found
