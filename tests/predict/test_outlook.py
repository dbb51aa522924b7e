"""What is expected of a line's batches, beside what is predicted of one batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from phase8_tune.kernels.htt_cross_entropy import plan
from phase8_tune.tuner.builtin.phase8.lines import BENDS_UNTIL_TOKENS
from phase8_tune.tuner.predict.climb import rounded, rounder
from phase8_tune.tuner.predict.fits import LAUNCH, RECOMMEND
from phase8_tune.tuner.predict.outlook import Outlook
from phase8_tune.tuner.predict.prediction import Predictor
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.predict.store import PredictionStore
from phase8_tune.tuner.predict.tracers import LocalTracers
from phase8_tune.tuner.values.candidate import Candidate

GIB = 1 << 30
BUDGET_BYTES = 6 * GIB
ALLOWED = range(1, 50_001)
LISTED = (1, 2, 4096, 50_000)
LINE = Candidate(
    model="nano",
    n_seq=16,
    batch_size=0,
    kernel_version="fast",
    gradient_checkpointing=False,
    mixed_precision="bf16",
)
LINES = {version: LINE.changed(kernel_version=version) for version in ("fast", "reference")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Iterator[Predictor]:
    with PredictionStore(folder, processes=1) as store:
        yield Predictor(profile=gpu_profile("rtx-3080-laptop"), store=store)


def ahead(predictor: Predictor, line: Candidate, allowed: range | tuple[int, ...] = ALLOWED) -> Outlook:
    [outlook] = predictor.look_ahead([(line, allowed)], BUDGET_BYTES, LAUNCH)
    return outlook


@pytest.mark.parametrize("version", LINES)
def test_the_largest_fits_and_the_next_does_not(predictor: Predictor, version: str) -> None:
    """By the rule that is asked, with all of whose short cuts one batch at a time agrees."""
    line = LINES[version]
    outlook = ahead(predictor, line)
    beside = [outlook.largest - 1, outlook.largest, outlook.largest + 1]
    found = predictor.survey([line.at(batch) for batch in beside], BUDGET_BYTES, LAUNCH)
    assert [forecast.is_over for forecast in found] == [False, False, True]
    assert [outlook.forecast(batch).is_over for batch in beside] == [False, False, True]
    assert outlook.fitting == range(1, outlook.largest + 1)
    for batch, forecast in zip(beside, found, strict=True):
        if batch in outlook.rungs:
            assert outlook.forecast(batch) == forecast


@pytest.mark.parametrize("version", LINES)
def test_what_is_recommended_has_3_percent_to_spare(predictor: Predictor, version: str) -> None:
    line = LINES[version]
    outlook = ahead(predictor, line)
    recommended = outlook.recommended
    assert recommended is not None
    assert recommended == predictor.predict(recommended.candidate, BUDGET_BYTES)
    assert recommended.fits
    assert recommended.peak_bytes <= BUDGET_BYTES
    batch, largest = recommended.candidate.batch_size, predictor.largest_batch(line, BUDGET_BYTES)
    assert recommended.candidate == line.at(batch)
    assert rounded(batch) == batch
    assert batch >= largest * 15 / 16  # and above it where a smaller one does not fit
    assert max(batch, largest) < outlook.largest
    assert predictor.predict(line.at(largest), BUDGET_BYTES).fits
    assert not predictor.predict(line.at(largest + 1), BUDGET_BYTES).fits


@pytest.mark.parametrize("version", LINES)
def test_of_a_few_batches_it_is_one_of_them(predictor: Predictor, version: str) -> None:
    line = LINES[version]
    outlook = ahead(predictor, line, LISTED)
    found = predictor.survey([line.at(batch) for batch in LISTED], BUDGET_BYTES, LAUNCH)
    fitting = tuple(batch for batch, each in zip(LISTED, found, strict=True) if not each.is_over)
    assert outlook.fitting == fitting
    assert fitting in (LISTED[:2], LISTED[:3])
    assert tuple(outlook.rungs) == LISTED[: len(fitting) + 1]  # and the first that does not fit
    assert [outlook.forecast(batch) for batch in outlook.rungs] == found[: len(fitting) + 1]
    assert outlook.recommended == predictor.predict(line.at(fitting[-1]), BUDGET_BYTES)


def test_where_all_fit_the_last_is_recommended(predictor: Predictor) -> None:
    outlook = ahead(predictor, LINES["fast"], range(1, 4097))
    assert outlook.largest == 4096
    assert outlook.recommended == predictor.predict(LINES["fast"].at(4096), BUDGET_BYTES)


@pytest.mark.parametrize("version", LINES)
def test_between_two_rungs_a_forecast_is_nearly_the_batchs_own(predictor: Predictor, version: str) -> None:
    line = LINES[version]
    outlook = ahead(predictor, line)
    low, high = sorted(batch for batch in outlook.rungs if batch <= outlook.largest)[-2:]
    batch = (low + high) // 2
    [own] = predictor.survey([line.at(batch)], BUDGET_BYTES, LAUNCH)
    found = outlook.forecast(batch)
    assert found.peak_bytes == pytest.approx(own.peak_bytes, rel=0.01)
    assert found.tokens_per_s.expected == pytest.approx(own.tokens_per_s.expected, rel=0.01)


def test_where_nothing_fits_the_smallest_is_known_all_the_same(predictor: Predictor) -> None:
    line = LINES["fast"]
    budget = predictor.outside_bytes(line) + (2 << 20)
    [outlook] = predictor.look_ahead([(line, ALLOWED)], budget, LAUNCH)
    assert (outlook.largest, list(outlook.fitting), outlook.recommended) == (0, [], None)
    assert list(outlook.rungs) == [1]
    assert outlook.forecast(1).is_over
    assert outlook.forecast(1).peak_bytes > budget
    assert predictor.largest_batch(line, budget) == 0


class Refusing(LocalTracers):
    """For a store that knows what is kept, and no more."""

    def submit(self, job):
        raise AssertionError("a process was asked for what is known")


def test_outlooks_are_kept_and_told_one_by_one(folder: Path, predictor: Predictor) -> None:
    before = [ahead(predictor, line) for line in LINES.values()]
    told: list[Outlook] = []
    kept = Predictor(profile=predictor.profile, store=PredictionStore(folder, tracers=Refusing()))
    asked = [(line, ALLOWED) for line in LINES.values()]
    assert kept.look_ahead(asked, BUDGET_BYTES, LAUNCH, told.append) == told == before
    with pytest.raises(AssertionError, match="a process was asked"):
        kept.look_ahead(asked, BUDGET_BYTES, RECOMMEND)


def test_the_heads_chunks_are_full_where_lines_are_fitted() -> None:
    """Sizes of a step are straight in the batch from there on, and not before."""
    assert BENDS_UNTIL_TOKENS * plan.CHUNK_BYTES_PER_TOKEN == plan.CHUNK_BYTES
    shape = plan.HeadShape(
        tokens=BENDS_UNTIL_TOKENS, d_model=512, vocab_size=50257, v1=225, v2=224, rank=16, d1=512, d2=1
    )
    less, full, *more = (
        plan.logits_chunk_tokens(replace(shape, tokens=times * BENDS_UNTIL_TOKENS // 2), torch.bfloat16)
        for times in (1, 2, 3, 4, 16)
    )
    assert less < full
    assert more == [full] * 3


def test_what_would_run_out_of_memory_in_a_worker_that_had_measured_another_is_not_launched(
    folder: Path,
) -> None:
    """Seen on an H200: some of what fits in a new process does not where each segment lies above the last.

    Under which budgets depends on every kernel's memory: one of a few is asked for.
    """
    line = LINE.changed(model="medium", n_seq=1024, gradient_checkpointing="full")
    rules = (LAUNCH, replace(LAUNCH, any_placement=False))
    with PredictionStore(folder, processes=1) as store:
        on_h200 = Predictor(profile=gpu_profile("h200"), store=store)

        def largest(budget_bytes: int) -> list[int]:
            outlooks = (on_h200.look_ahead([(line, range(1, 129))], budget_bytes, rule) for rule in rules)
            return [outlook.largest for (outlook,) in outlooks]

        found = (largest(tenths * GIB // 10) for tenths in range(60, 30, -5))
        assert any(anywhere < in_new for anywhere, in_new in found)


def test_what_fits_under_the_lower_cap_alone_is_not_recommended(folder: Path) -> None:
    """It fits with 3 % to spare, as cache is given back there, and not under its own cap; where, as above."""
    line, batches = LINE.changed(model="base", n_seq=512, gradient_checkpointing="full"), range(1, 513)
    with PredictionStore(folder, processes=1) as store:
        laptop = Predictor(profile=gpu_profile("rtx-4060-laptop"), store=store)
        for tenths in range(72, 52, -2):
            budget_bytes = tenths * GIB // 10
            [outlook] = laptop.look_ahead([(line, batches)], budget_bytes, RECOMMEND)
            first = next(iter(rounder(batches, outlook.largest)))
            assert outlook.recommended is not None
            recommended = outlook.recommended
            if recommended.candidate.batch_size != first:
                break
        above, below = laptop.predict_all([line.at(first), recommended.candidate], budget_bytes)
    assert (above.fits, below.fits) == (False, True)
    assert recommended == below
