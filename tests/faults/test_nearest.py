"""A name that is refused comes with the one that was probably meant."""

from __future__ import annotations

import pytest

from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.study.definition import load_definition, parse_definition
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.values.nearest import nearest, one_of


def message(axis: str, name: str) -> str:
    """What is said of a study with this name in an axis."""
    axes = {
        "model": "nano",
        "n_seq": "64",
        "batch_size": "1",
        "kernel_version": "reference",
        "gradient_checkpointing": "false",
        "mixed_precision": "none",
        axis: name,
    }
    lines = [f"  {key}: [{value}]" for key, value in axes.items()]
    with pytest.raises(UserInputError) as caught:
        parse_definition("\n".join(["name: tiny", "axes:", *lines]), "s.yaml")
    return str(caught.value)


def test_the_nearest_name_is_offered() -> None:
    known = "nano, small, base, medium, large, xl, xxl, giant, or d_model x n_layers such as 640x10"
    wanted = f"expected one of {known}, got 'nanoo'; did you mean nano?"
    assert message("model", "nanoo") == f"s.yaml: axes.model[0]: {wanted}"
    assert message("kernel_version", "refrence").endswith("got 'refrence'; did you mean reference?")
    assert "did you mean" not in message("model", "whisper")


def test_of_keys_studies_and_cards_too() -> None:
    with pytest.raises(UserInputError, match=r"unknown key; expected one of .*; did you mean batch_size\?"):
        parse_definition("name: tiny\nrows: [{batchsize: 1}]\n", "s.yaml")
    with pytest.raises(UserInputError, match=r"the path of a YAML file; did you mean default\?"):
        load_definition("defualt")
    with pytest.raises(UserInputError, match=r"got 'rtx-3080-labtop'; did you mean rtx-3080-laptop "):
        gpu_profile("rtx-3080-labtop")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("NANO", "nano"), ("smal", "small"), ("xll", "xl"), ("mediun", "medium"), ("gpt", None)],
)
def test_nearest(name: str, meant: str | None) -> None:
    assert nearest(name, ("nano", "small", "medium", "xl")) == meant


def test_a_far_name_gets_the_list_alone() -> None:
    assert one_of(("a1", "b2"), "zebra") == "expected one of a1, b2, got 'zebra'"
    assert nearest("my-small", ("nano", "small"), alike=0.8) is None
