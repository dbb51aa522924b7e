"""Lines of factories' models in the predictor: as those of Phase 8, or without an outlook, for a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from phase8_tune.tuner.predict.fits import LAUNCH
from phase8_tune.tuner.predict.lines import ForeignKey, is_predictable, line_key
from phase8_tune.tuner.predict.prediction import Predictor
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.predict.store import PredictionStore
from phase8_tune.tuner.predict.tracers import LocalTracers
from phase8_tune.tuner.search.foresight import LookingAhead
from phase8_tune.tuner.study.definition import parse_definition
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.values.workload_spec import note_spec
from phase8_tune.tuner.workloads.reading import describe
from phase8_tune.tuner.workloads.sources import workload_sources
from phase8_tune.tuner.workloads.spec import from_json

GIB = 1 << 30
PROFILE = gpu_profile("rtx-3060")
OWN = Path(__file__).parent.parent / "workloads" / "own_model.py"
TINY = Candidate(workload="transformer", model="64x1", batch_size=4, n_seq=32, family="gpt2")
STUDY = """\
name: tiny
workload: transformer
axes: {model: [64x1], n_seq: [32], batch_size: [1, 4], kernel_version: [eager, compiled]}
"""


def own(path: Path, factory: str) -> Candidate:
    """A candidate of a factory of a file, which is described as its own process would."""
    name = f"{path}:{factory}"
    note_spec(from_json(describe(name)))
    return Candidate(workload=name, model="narrow", batch_size=4)


def test_a_transformer_is_predicted_with_its_parameters(tmp_path: Path) -> None:
    with PredictionStore(tmp_path, processes=1) as store:
        predictor = Predictor(profile=PROFILE, store=store)
        found = predictor.predict(TINY, 4 * GIB)
        largest = predictor.largest_batch(TINY, 4 * GIB)
        assert predictor.predict(TINY.at(largest), 4 * GIB).fits
        assert not predictor.predict(TINY.at(largest + largest // 8), 4 * GIB).fits
    assert found.fits
    assert found.parameters - found.body_parameters == 32 * 64
    ledger = {line.name: line.size_bytes for line in found.ledger}
    assert ledger["weights"] == pytest.approx(4 * found.parameters, rel=0.05)
    assert ledger["optimizer"] == pytest.approx(8 * found.parameters, rel=0.05)
    assert found.tokens_per_s.low < found.tokens_per_s.expected < found.tokens_per_s.high


def test_what_is_kept_is_asked_no_process_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = own(OWN, "raises")
    with PredictionStore(tmp_path, processes=1) as store:
        predictor = Predictor(profile=PROFILE, store=store)
        before = predictor.predict(TINY, 4 * GIB)
        with pytest.raises(UserInputError, match=r"no such layer.*; measure it instead"):
            predictor.predict(broken, 4 * GIB)
    monkeypatch.setattr(LocalTracers, "submit", lambda *_: pytest.fail("a process was asked"))
    with PredictionStore(tmp_path) as store:
        predictor = Predictor(profile=PROFILE, store=store)
        assert predictor.predict(TINY, 4 * GIB) == before
        with pytest.raises(UserInputError, match="no such layer"):
            predictor.predict(broken, 4 * GIB)
    kept = [json.loads(path.read_text()) for path in tmp_path.rglob("*.json")]
    assert sorted(bool(each["problem"]) for each in kept) == [False, True]


def test_lines_that_cannot_be_followed_are_left_out_and_told(tmp_path: Path) -> None:
    space = SearchSpace(parse_definition(STUDY, "tiny"))
    told = []
    with PredictionStore(tmp_path, processes=1) as store:
        predictor = Predictor(profile=PROFILE, store=store)
        asked = [(line, space.batches(line)) for line in space.lines]
        found = predictor.look_ahead(
            asked, 4 * GIB, LAUNCH, on_problem=lambda line, problem: told.append((line, problem))
        )
        with pytest.raises(UserInputError, match=r"torch\.compile"):
            predictor.look_ahead(asked, 4 * GIB, LAUNCH)
    assert [outlook.line.version for outlook in found] == ["eager"]
    assert found[0].body_parameters is not None
    [(line, problem)] = told
    assert line.version == "compiled"
    assert "torch.compile" in problem


def test_a_search_measures_them_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHASE8_TUNE_CACHE", str(tmp_path))
    space = SearchSpace(parse_definition(STUDY, "tiny"))
    told: list[str] = []
    with LookingAhead(
        space, PROFILE, budget_bytes=4 * GIB, reserve_bytes=0, tracers=LocalTracers(1), on_problem=told.append
    ) as looking:
        outlooks = {line.version: looking.foresight.outlook(line) for line in space.lines}
    assert outlooks["eager"] is not None
    assert outlooks["compiled"] is None
    assert len(told) == 1
    assert told[0].startswith("transformer 64x1: torch.compile")


def test_another_file_is_another_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    shutil.copy(OWN, path)
    candidate = own(path, "build")
    before = line_key(candidate, PROFILE)
    assert isinstance(before, ForeignKey)
    assert line_key(candidate, PROFILE) == before
    for name in ("layers.py", "parts/__init__.py", "parts/inner.py"):  # which it may import
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("# new\n")
        workload_sources.cache_clear()
        after = line_key(candidate, PROFILE)
        assert after != before
        before = after
    assert is_predictable(candidate)
    assert not is_predictable(candidate.changed(mode="forward"))
