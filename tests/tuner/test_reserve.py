"""What `--reserve auto` leaves to a display and to other programs, of cards as NVML tells them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.commands.request import RunRequest, settle_reserve
from phase8_tune.tuner.machine.nvml import Card, open_nvml
from phase8_tune.tuner.measuring.memory import DRIFT_BYTES
from phase8_tune.tuner.measuring.reserve import (
    DISPLAY_MARGIN_BYTES,
    OtherUse,
    reserve_for_others,
    see_other_use,
)
from phase8_tune.tuner.places import here
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.values.measurement import LedgerLine
from phase8_tune.tuner.values.record import Record

from ..fakes.nvml import MIB, FakeNvml
from .report_records import make_record

GIB = 1 << 30


def card_of(library: FakeNvml) -> Card:
    nvml = open_nvml(library).nvml
    assert nvml is not None
    card = nvml.find(library.uuid)
    assert card is not None
    return card


def laptop(**changes: int) -> FakeNvml:
    """8 GiB, of which the driver keeps 200 MiB and a desktop 700."""
    card: dict[str, Any] = {"total": 8 * GIB, "used": 900 * MIB, "reserved": 200 * MIB, "display": 1}
    return FakeNvml(**card | changes)


def test_a_display_keeps_what_it_holds_and_room_for_windows() -> None:
    use = see_other_use(card_of(laptop()))
    assert use == OtherUse(
        total_bytes=8 * GIB, others_bytes=700 * MIB, driver_bytes=200 * MIB, drives_display=True
    )
    found = reserve_for_others([use], budget_bytes=8 * GIB)
    # With a budget of all that is printed on the box, the driver's own is not to be had either.
    assert found.size_bytes == 900 * MIB + DISPLAY_MARGIN_BYTES
    assert found.told == (
        "--reserve auto: 1,500.00 MB of the budget: others hold 700.00 MB of the card's 8,192.00 MB, and "
        "600.00 MB are for windows that its screen may open"
    )


def test_other_programs_keep_what_they_hold_and_no_more() -> None:
    use = see_other_use(card_of(laptop(display=0)))
    found = reserve_for_others([use], budget_bytes=8 * GIB - 200 * MIB)
    assert found.size_bytes == 700 * MIB
    assert found.told is not None
    assert "windows" not in found.told


def test_what_others_hold_beside_the_budget_costs_nothing_of_it() -> None:
    use = see_other_use(card_of(laptop(total=80 * GIB, used=30 * GIB)))
    assert reserve_for_others([use], budget_bytes=8 * GIB).told is None
    assert reserve_for_others([use], budget_bytes=50 * GIB).size_bytes == DISPLAY_MARGIN_BYTES


@pytest.mark.parametrize("budget_bytes", [4 * GIB, 8 * GIB])
def test_a_card_of_ones_own_is_ones_own(budget_bytes: int) -> None:
    idle = laptop(display=0, used=200 * MIB + DRIFT_BYTES)
    assert reserve_for_others([see_other_use(card_of(idle))], budget_bytes=budget_bytes).size_bytes == 0


def test_what_this_program_holds_is_not_anothers() -> None:
    library = laptop(display=0, used=1400 * MIB)
    assert see_other_use(card_of(library), own_bytes=500 * MIB) == see_other_use(
        card_of(laptop(display=0, used=900 * MIB))
    )


@pytest.mark.parametrize("refused", ["nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetDisplayActive"])
def test_a_driver_that_tells_less_is_believed_as_far_as_it_goes(refused: str) -> None:
    library = laptop()
    library.refused = {refused}
    found = reserve_for_others([see_other_use(card_of(library))], budget_bytes=8 * GIB)
    is_margin_known = refused != "nvmlDeviceGetDisplayActive"
    assert found.size_bytes == 900 * MIB + (DISPLAY_MARGIN_BYTES if is_margin_known else 0)


def test_without_figures_nothing_is_kept() -> None:
    silent = FakeNvml(refused={"nvmlDeviceGetMemoryInfo"}, display=1)
    assert see_other_use(card_of(silent)) is None
    assert see_other_use(None) is None
    assert reserve_for_others([None], budget_bytes=GIB).size_bytes == 0


def test_of_several_cards_the_fullest_counts() -> None:
    uses = [see_other_use(card_of(laptop(display=0, used=used * MIB))) for used in (300, 2200, 900)]
    found = reserve_for_others([*uses, None], budget_bytes=8 * GIB)
    assert found.size_bytes == 2200 * MIB
    assert "others hold 2,000.00 MB" in str(found.told)


def test_windows_opened_since_the_search_use_the_margin_that_was_kept_for_them() -> None:
    promised = 8 * GIB - 900 * MIB - DISPLAY_MARGIN_BYTES  # all that the search had left
    busier = laptop(used=(900 + 500) * MIB)
    found = reserve_for_others(
        [see_other_use(card_of(busier))], budget_bytes=8 * GIB, promised_bytes=promised
    )
    assert found.size_bytes == 8 * GIB - promised
    assert "100.00 MB are for windows" in str(found.told)


def test_a_training_that_no_longer_fits_beside_the_others_is_told() -> None:
    full = laptop(used=4 * GIB)
    found = reserve_for_others([see_other_use(card_of(full))], budget_bytes=8 * GIB, promised_bytes=5 * GIB)
    assert found.size_bytes == 4 * GIB
    assert "the 5,120.00 MB that the settings need are more than is left: close them" in str(found.told)


@given(
    st.integers(min_value=0, max_value=16 << 30),
    st.integers(min_value=1, max_value=16 << 30),
    st.integers(min_value=0, max_value=16 << 30),
    st.booleans(),
)
def test_budget_and_others_fit_on_the_card(others: int, budget: int, promised: int, display: bool) -> None:
    use = OtherUse(total_bytes=16 << 30, others_bytes=others, driver_bytes=0, drives_display=display)
    found = reserve_for_others([use], budget_bytes=budget, promised_bytes=promised)
    assert found.size_bytes >= 0
    assert budget - found.size_bytes + others <= (16 << 30) + DRIFT_BYTES
    assert (found.told is None) == (found.size_bytes == 0)


def settled(
    monkeypatch: pytest.MonkeyPatch,
    library: FakeNvml,
    *,
    asked: int | None = None,
    earlier: Sequence[Record] = (),
) -> tuple[int, list[str]]:
    """What a run on a card of 8 GiB is told to leave of a budget of all of it, and what is told."""
    told: list[str] = []
    monkeypatch.setattr(here, "open_nvml", lambda: open_nvml(library))
    request = RunRequest(vram_bytes=8 * GIB, command="", reserve_bytes=asked)
    uses = here.Cards((library.uuid,)).other_uses()
    return settle_reserve(request, 8 * GIB, uses, earlier, told.append), told


def test_a_run_says_what_it_leaves_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    size_bytes, (line,) = settled(monkeypatch, laptop())
    assert size_bytes == 1500 * MIB
    assert line.startswith("--reserve auto: 1,500.00 MB of the budget: others hold 700.00 MB")
    assert settled(monkeypatch, laptop(display=0, used=200 * MIB)) == (0, [])


@pytest.mark.parametrize("asked", [0, 64 * MIB])
def test_a_size_of_ones_own_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, asked: int) -> None:
    assert settled(monkeypatch, laptop(), asked=asked) == (asked, [])


def test_a_run_that_is_gone_on_with_keeps_its_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    record = make_record()
    line = LedgerLine(name="margin", size_bytes=1700 * MIB, source="--reserve")
    measurement = record.measurement.model_copy(update={"ledger": (line,)})
    earlier = [make_record(), record.model_copy(update={"measurement": measurement})]
    size_bytes, (told,) = settled(monkeypatch, laptop(), earlier=earlier)
    assert size_bytes == 1700 * MIB
    assert "1,700.00 MB of the budget, as earlier in this run" in told
    size_bytes, _ = settled(monkeypatch, laptop(used=2 * GIB), earlier=earlier)
    assert size_bytes == 2 * GIB + DISPLAY_MARGIN_BYTES
    assert settled(monkeypatch, laptop(), asked=0, earlier=earlier) == (0, [])


def test_a_card_that_others_fill_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserInputError, match="leaves nothing of 8GB; close other programs") as refused:
        settled(monkeypatch, laptop(used=8 * GIB - 100 * MIB))
    assert len(str(refused.value).splitlines()) == 1
