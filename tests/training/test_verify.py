"""`phase8-tune verify`: what a file promises against what its training did, with made-up trainings."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from phase8_tune.tests.exit_codes import exit_code
from phase8_tune.tuner.builtin.phase8.settings import Phase8Settings
from phase8_tune.tuner.cli import main
from phase8_tune.tuner.training import verification
from phase8_tune.tuner.training.recommended import to_yaml
from phase8_tune.tuner.training.session import Request
from phase8_tune.tuner.training.settings import load_settings
from phase8_tune.tuner.training.verification import Life, life_request
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.workloads.settings import Measured, Predicted

from .training_runs import Result

MIB = 1 << 20
PROMISED: dict[str, Any] = {
    "device": "Example GPU",
    "versions": {"torch": "0.0.1"},
    "mode": "train",
    "budget_bytes": 8192 * MIB,
    "peak_source": "nvml",
    "digest": "0123456789abcdef",
}
MEASURED = Measured(
    mean_tokens_per_s=1000.0,
    std_tokens_per_s=1.0,
    samples=20,
    peak_bytes=8000 * MIB,
    device_kind="cuda",
    **PROMISED,
)
PREDICTED = Predicted(
    tokens_per_s=1000.0,
    tokens_per_s_low=900.0,
    tokens_per_s_high=1300.0,
    limited_by="memory",
    peak_bytes=7800 * MIB,
    peak_bytes_high=8000 * MIB,
    margin=0.03,
    fits=True,
    spare_bytes=192 * MIB,
    ledger={},
    device_kind="predicted",
    **PROMISED,
)
SETTINGS = Phase8Settings(d_model=128, n_layers=4, n_seq=64, batch_size=2, n_heads=4, htt_rank=16)


@dataclass
class Trainings:
    """What the made-up trainings do, and what they were asked."""

    tokens_per_s: float = 1000.0
    peak_bytes: int = 8000 * MIB
    later_peak_bytes: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)

    def live(self, path: Path, request: dict[str, Any]) -> Life:
        self.asked.append(request)
        peak = self.peak_bytes if len(self.asked) % 2 else max(self.peak_bytes, self.later_peak_bytes)
        answer = {
            "tokens_per_s": self.tokens_per_s,
            "held_out_loss": 2.5,
            "peak_bytes": peak,
            "reserved_bytes": peak - 500 * MIB,
        }
        return Life(answer=answer, peak_bytes=peak, peak_source="nvml, from outside")


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    made = Trainings()
    monkeypatch.setattr(verification, "live", made.live)
    return made


@pytest.fixture
def recommended(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "mine" / "recommended" / "nano.yaml"
    path.parent.mkdir(parents=True)
    write(path, MEASURED)
    return path


def write(path: Path, promise: Measured | Predicted) -> None:
    key = "measured" if isinstance(promise, Measured) else "predicted"
    path.write_text(to_yaml(SETTINGS.model_copy(update={key: promise})), encoding="utf-8")


def verify(capsys: pytest.CaptureFixture[str], *arguments: object) -> Result:
    code = exit_code(lambda: main(["verify", *map(str, arguments)]))
    told = capsys.readouterr()
    return Result(code, told.out, told.err)


def test_a_training_is_asked_for_its_whole_life_in_two_processes(
    trainings: Trainings, recommended: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(capsys, recommended, "--steps", 7, "--seconds", 3).exit_code == 0
    first, second = (Request(**request) for request in trainings.asked)
    assert (first.steps, first.evaluate_every, first.save_every, first.max_time_s) == (7, 7, 7, None)
    assert (first.vram_bytes, first.reserve_bytes) == (8192 * MIB, None)
    assert second.resume
    assert second.output == first.output
    assert second.max_time_s == 3
    assert min(second.steps, second.evaluate_every, second.save_every) > 10**6


@pytest.mark.parametrize(
    ("promise", "does", "problem"),
    [
        (MEASURED, {}, None),
        (MEASURED, {"tokens_per_s": 971.0}, None),
        (MEASURED, {"tokens_per_s": 969.0}, "969 tokens/s, where 970 to 1,030 were promised"),
        (MEASURED, {"tokens_per_s": 1031.0}, "1,031 tokens/s, where 970 to 1,030 were promised"),
        (MEASURED, {"peak_bytes": 8039 * MIB}, None),
        (MEASURED, {"peak_bytes": 8041 * MIB}, "where 8,388,608,000 were promised"),
        (MEASURED, {"later_peak_bytes": 8041 * MIB}, "where 8,388,608,000 were promised"),
        (MEASURED, {"peak_bytes": 8193 * MIB}, "is over the budget of 8,589,934,592"),
        (PREDICTED, {"tokens_per_s": 1299.0}, None),
        (PREDICTED, {"tokens_per_s": 899.0}, "899 tokens/s, where 900 to 1,300 were promised"),
        (PREDICTED, {"peak_bytes": 8041 * MIB}, "where 8,388,608,000 were promised"),
    ],
)
def test_a_promise_holds_within_its_tolerance(
    trainings: Trainings,
    recommended: Path,
    capsys: pytest.CaptureFixture[str],
    promise: Measured | Predicted,
    does: dict[str, Any],
    problem: str | None,
) -> None:
    write(recommended, promise)
    vars(trainings).update(does)
    result = verify(capsys, recommended)
    assert result.exit_code == (0 if problem is None else 1)
    assert ("does not hold" in result.stdout) == (problem is not None)
    if problem is not None:
        assert problem in " ".join(result.stdout.split())
        assert result.stderr.splitlines()[-1].endswith("what was promised did not hold; see above")
    assert "torch: 0.0.1 in the file" in " ".join(result.stdout.split())  # which may explain it


def test_of_a_cpu_the_budget_alone_counts(
    trainings: Trainings, recommended: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(recommended, MEASURED.model_copy(update={"device_kind": "cpu"}))
    trainings.peak_bytes = 8100 * MIB
    assert verify(capsys, recommended, "--device", "cpu").exit_code == 0
    trainings.peak_bytes = 8200 * MIB
    assert verify(capsys, recommended, "--device", "cpu").exit_code == 1


def test_what_was_found_is_written_into_the_file_where_asked(
    trainings: Trainings, recommended: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = recommended.read_bytes()
    verify(capsys, recommended)
    assert recommended.read_bytes() == before
    trainings.tokens_per_s = 500.0
    assert verify(capsys, recommended, "--write", "--steps", 7).exit_code == 1
    settings = load_settings(recommended)
    assert settings.verified is not None
    assert (settings.verified.held, settings.verified.tokens_per_s) == (False, 500.0)
    assert (settings.verified.steps, settings.measured) == (7, MEASURED)


def test_all_of_a_run_as_json(
    trainings: Trainings, recommended: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(recommended.with_name("small.yaml"), PREDICTED)
    result = verify(capsys, "--all", "mine", "--runs-dir", recommended.parents[2], "--json")
    rows = json.loads(result.stdout)
    assert [Path(row["path"]).stem for row in rows] == ["nano", "small"]
    assert [row["held"] for row in rows] == [True, True]
    assert len(trainings.asked) == 4


def test_a_file_that_promises_nothing_is_refused(
    trainings: Trainings, recommended: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recommended.write_text("d_model: 128\nn_layers: 4\nn_seq: 64\nbatch_size: 2\n")
    result = verify(capsys, recommended)
    assert result.exit_code == 2
    assert "expected a recommended file" in result.stderr.splitlines()[-1]
    assert trainings.asked == []


def test_what_a_training_says_when_it_ends_is_the_line(tmp_path: Path) -> None:
    """A real process, which refuses its settings."""
    path = tmp_path / "bad.yaml"
    path.write_text("d_model: [\n")
    with pytest.raises(UserInputError, match=r"bad\.yaml: its training ended: .*YAML") as ended:
        verification.live(path, life_request(path, tmp_path, 8192 * MIB, steps=1, device="cpu"))
    assert len(str(ended.value).splitlines()) == 1
