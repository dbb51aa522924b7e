"""`--gpus`: all, numbers and UUIDs, against a stand-in for NVML; what is wrong is one line."""

from __future__ import annotations

import pytest

from phase8_tune.tuner.machine.gpus import select_gpus
from phase8_tune.tuner.values.errors import UserInputError

from ..fakes.nvml import FakeMachine, FakeNvml

A, B, C = "GPU-aaaa1111-00", "GPU-aaaa2222-00", "GPU-cccc3333-00"


def machine(**names: str) -> FakeMachine:
    """Three cards, of one model unless named otherwise."""
    return FakeMachine([FakeNvml(uuid=uuid, name=names.get(uuid[4:8], "card")) for uuid in (A, B, C)])


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("all", (A, B, C)),
        ("0", (A,)),
        ("2,0", (C, A)),
        (" 1 , 2 ", (B, C)),
        (B, (B,)),
        ("GPU-aaaa2", (B,)),
        (f"GPU-c,0,{B}", (C, A, B)),
    ],
)
def test_each_way_to_name_them(text: str, chosen: tuple[str, ...]) -> None:
    assert select_gpus(text, library=machine()) == chosen


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("3", ["a GPU of 0 (GPU-aaaa1111-00), 1 (", "got '3'"]),
        ("-1", ["got '-1'"]),
        ("", ["got ''"]),
        ("0,", ["got ''"]),
        ("everything", ["got 'everything'"]),
        ("GPU-dddd", ["got 'GPU-dddd'"]),
        ("aaaa1111", ["got 'aaaa1111'"]),
        ("MIG-1234", ["got 'MIG-1234'"]),
        ("²", ["got '²'"]),
        ("GPU-aaaa", ["fits one GPU", f"which fits {A}, {B}"]),
        ("0,1,0", ["every GPU once", "got 0 and 0"]),
        (f"0,{A}", [f"got 0 and {A}, which are one"]),
        ("0,all", ["got 'all'"]),
    ],
)
def test_what_names_none_or_one_twice_is_one_line(text: str, parts: list[str]) -> None:
    with pytest.raises(UserInputError) as caught:
        select_gpus(text, library=machine())
    message = str(caught.value)
    assert message.startswith("--gpus: expected ")
    assert [part for part in parts if part not in message] == []
    assert "\n" not in message
    assert caught.value.exit_code == 2


def test_different_models_are_refused_with_what_to_type() -> None:
    mixed = machine(cccc="other")
    with pytest.raises(UserInputError) as caught:
        select_gpus("all", library=mixed)
    assert str(caught.value) == (
        "--gpus: expected GPUs of one model, as a study is of one, got card (0, 1) and other (2); "
        "type --gpus 0,1 or --gpus 2"
    )
    with pytest.raises(UserInputError, match=f"type --gpus {C} or --gpus 1$"):
        select_gpus(f"{C},1", library=mixed)
    assert select_gpus("0,1", library=mixed) == (A, B)


def test_a_lost_card_keeps_the_numbers_of_the_others() -> None:
    library = machine()
    library.cards[0].refused = {"nvmlDeviceGetHandleByIndex"}
    assert select_gpus("all", library=library) == (B, C)
    assert select_gpus("2", library=library) == (C,)
    with pytest.raises(UserInputError, match="got '0'"):
        select_gpus("0", library=library)


@pytest.mark.parametrize("library", [FakeNvml(refused={"nvmlInit"}), FakeMachine([])])
def test_without_a_driver_that_lists_them(library: object) -> None:
    with pytest.raises(UserInputError, match="leave --gpus out"):
        select_gpus("all", library=library)


def test_a_part_of_a_gpu_is_found_by_its_whole_uuid() -> None:
    class WithParts(FakeMachine):
        def nvmlDeviceGetCount(self) -> int:
            return 1  # parts are not among the cards

    parts = WithParts([FakeNvml(uuid=A), FakeNvml(uuid="MIG-1"), FakeNvml(uuid="MIG-2")])
    assert select_gpus("MIG-1,MIG-2", library=parts) == ("MIG-1", "MIG-2")
