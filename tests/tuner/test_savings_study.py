"""Lines that save memory, from a study's text to who predicts them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from phase8_tune.tuner.measuring.testing import formula
from phase8_tune.tuner.predict.outlook import Outlook
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.predict.tracers import LocalTracers
from phase8_tune.tuner.records.database import StudyStore
from phase8_tune.tuner.search.choice import choose_strategy
from phase8_tune.tuner.search.foresight import LookingAhead
from phase8_tune.tuner.search.progress import StopReason
from phase8_tune.tuner.search.savings import due_by_prediction
from phase8_tune.tuner.study.changes import with_models
from phase8_tune.tuner.study.definition import StudyDefinition, parse_definition
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.errors import UserInputError

from .outlooks import outlook_of
from .search_bench import BUDGET_BYTES, Bench
from .test_savings import Served

ALWAYS = """\
  - model: [nano, small]
    n_seq: [64]
    batch_size: [1, 4]
    kernel_version: [reference]
    gradient_checkpointing: [none, full]
    mixed_precision: [none]
"""
SAVING = """\
  - tried_where: memory_limits
    model: [nano]
    n_seq: [64]
    batch_size: [1, 4]
    kernel_version: [reference]
    gradient_checkpointing: [full]
    mixed_precision: [none]
    optimizer_state: [fp32, 8bit]
"""


def study(products: str = ALWAYS + SAVING) -> StudyDefinition:
    return parse_definition(f"name: saving\naxes:\n{products}", "s.yaml")


def test_what_is_searched_anyway_is_no_saving() -> None:
    definition = study()
    space = SearchSpace(definition)
    assert [(line.model, line.optimizer_state) for line in space.savings] == [("nano", "8bit")]
    assert len(space.lines) == 5
    assert parse_definition(definition.to_yaml(), "again") == definition


def test_where_it_is_tried_counts_for_a_study_and_no_earlier_study_changes() -> None:
    assert (
        study(ALWAYS).digest()
        == StudyDefinition.model_validate(
            {"name": "saving", "axes": study(ALWAYS).model_dump()["axes"]}
        ).digest()
    )
    as_usual = SAVING.replace("tried_where: memory_limits", "variant: [phase8]")
    assert study(ALWAYS + SAVING).digest() != study(ALWAYS + as_usual).digest()


@pytest.mark.parametrize(
    ("products", "told"),
    [
        (SAVING, "axes: expected a product without tried_where, got none"),
        (ALWAYS + SAVING.replace("memory_limits", "always"), "axes[1].tried_where: expected 'memory_limits'"),
        (ALWAYS + SAVING.replace("tried_where", "tried_when"), "did you mean tried_where"),
    ],
)
def test_nonsense_is_one_line(products: str, told: str) -> None:
    with pytest.raises(UserInputError) as caught:
        study(products)
    assert told in str(caught.value)
    assert str(caught.value).startswith("s.yaml: ")


def test_a_model_of_ones_own_is_saved_memory_for_too() -> None:
    space = SearchSpace(with_models(study(), ["64x1"]))
    assert {(line.model, line.optimizer_state) for line in space.lines} == {
        ("64x1", "fp32"),
        ("64x1", "8bit"),
    }
    assert len(space.savings) == 1
    assert not SearchSpace(with_models(study(), ["small"])).savings


def test_a_plan_foresees_savings_where_prediction_says_that_memory_limits() -> None:
    space = SearchSpace(
        study(
            ALWAYS.replace("[nano, small]", "[nano, small, base]")
            + SAVING.replace("[nano]", "[nano, small, base]")
        )
    )
    listed = (1, 4)

    def of(model: str, checkpointing: str, largest: int, rate: float) -> Outlook:
        named = next(
            each
            for each in space.lines
            if (each.model, each.gradient_checkpointing, each.optimizer_state)
            == (model, checkpointing, "fp32")
        )
        return outlook_of(named, listed, largest, lambda batch: rate)

    outlooks = [
        of("nano", "none", 4, 100.0), of("nano", "full", 4, 80.0),  # the best fits wholly
        of("small", "none", 0, 100.0), of("small", "full", 4, 80.0),  # a better one does not
        of("base", "none", 0, 100.0), of("base", "full", 0, 80.0),  # nothing fits
    ]  # fmt: skip
    assert [each.model for each in due_by_prediction(space, outlooks)] == ["small", "base"]


def test_lines_that_are_asked_for_later_are_predicted_beside_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    products = (ALWAYS + SAVING.replace("fp32, 8bit", "8bit")).replace("nano, small", "nano")
    space = SearchSpace(study(products.replace("[none, full]", "[none]")))
    [later] = space.savings
    looking = LookingAhead(
        space, gpu_profile("h200"), budget_bytes=BUDGET_BYTES, reserve_bytes=0, tracers=LocalTracers(1)
    )
    with looking as ahead:
        foresight = ahead.foresight
        [first] = [each for each in space.lines if each != later]
        assert foresight.outlook(first) is not None
        foresight.wait_for_more(than=1)  # there is no more: nobody asked
        assert [outlook.line for outlook in foresight.known] == [first]
        foresight.ask([later])
        found = foresight.outlook(later)
        assert found is not None
        assert found.line == later
    assert foresight.is_complete
    assert not any(thread.name == "predictions" for thread in threading.enumerate())


def test_rows_save_nothing() -> None:
    rows = (
        "rows: [{model: nano, n_seq: 64, batch_size: 1, kernel_version: reference, "
        "gradient_checkpointing: none, mixed_precision: none, tried_where: memory_limits}]"
    )
    with pytest.raises(UserInputError, match=r"rows\[0\].tried_where: unknown key"):
        parse_definition(f"name: saving\n{rows}", "s.yaml")


def test_a_whole_search_measures_what_saves_memory_where_it_limits_alone(tmp_path: Path) -> None:
    """Of xl nothing fits without, of nano all does: so that small state is measured of xl alone."""
    products = (ALWAYS + SAVING).replace("[nano, small]", "[nano, xl]").replace("[nano]", "[nano, xl]")
    definition = study(products.replace("[fp32, 8bit]", "[8bit]\n    master_weights: [bf16_sr]"))
    bench = Bench(tmp_path, definition)
    of_line = {line: bench.space.batches(line) for line in bench.space.lines}
    outlooks = [
        outlook_of(line, batches, max((b for b in batches if fits(line.at(b))), default=0), rate_of(line))
        for line, batches in of_line.items()
    ]
    savings = [outlook for outlook in outlooks if outlook.line in bench.space.savings]
    foresight = Served([outlook for outlook in outlooks if outlook not in savings], savings)
    strategy, filters = choose_strategy(
        definition, bench.space, StudyStore(bench.storage, bench.space, name="s", seed=0, startup_trials=4),
        None, (), foresight, None, budget_bytes=BUDGET_BYTES,
    )  # fmt: skip
    result = bench.run(strategy=strategy, filters=filters)
    found = {
        (c.model, c.optimizer_state)
        for record in result.records
        if (c := record.to_candidate()) and record.fits
    }
    assert found == {("nano", "fp32"), ("xl", "8bit")}
    assert {line.model for line in foresight.served} == {"xl"}
    assert result.stop_reason is StopReason.EXHAUSTED


def fits(candidate: Candidate) -> bool:
    return formula(candidate)[1] <= BUDGET_BYTES


def rate_of(line: Candidate) -> Callable[[int], float]:
    return lambda batch: line.at(batch).items_per_step / formula(line.at(batch))[0]
