"""A card is found by its name as people write it; several or none are told in one line; or a file says it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from phase8_tune.tuner.predict.rate.profiles import chosen_profile, gpu_profile, gpu_profiles, read_gpu_file
from phase8_tune.tuner.values.errors import UserInputError

MINE = """\
title: My Card 2000
compute_capability: "8.6"
capacity_bytes: 8589934592
multiprocessors: 30
bandwidth: {value: 448.0e+9, basis: specification, source: its box}
matrix_16bit: {value: 20.0e+12, basis: estimate, source: a guess}
matrix_32bit: {value: 1.0e+13, basis: specification, source: its box}
"""


@pytest.mark.parametrize("name", gpu_profiles())
def test_every_name_is_its_card_in_any_spelling(name):
    for written in (name, name.upper(), f" {name} "):
        assert gpu_profile(written).name == name


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("RTX 3060 Ti", "rtx-3060-ti"),
        ("3060ti", "rtx-3060-ti"),
        ("GeForce RTX3060Ti", "rtx-3060-ti"),
        ("RTX 3060 12GB", "rtx-3060"),
        ("3060 8 GB", "rtx-3060-8gb"),
        ("4060 Ti 16GB", "rtx-4060-ti-16gb"),
        ("NVIDIA GeForce RTX 4060 Laptop GPU", "rtx-4060-laptop"),
        ("4060 laptop", "rtx-4060-laptop"),
        ("RTX 4060 Mobile", "rtx-4060-laptop"),
        ("4090 desktop", "rtx-4090"),
        ("4090 24GB", "rtx-4090"),
        ("4070 Ti SUPER", "rtx-4070-ti-super"),
        ("RTX 3050 6GB Laptop GPU", "rtx-3050-laptop-6gb"),
        ("A100 80GB", "a100-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("Tesla T4", "t4"),
        ("a4000", "rtx-a4000"),
    ],
)
def test_a_card_as_people_write_it(written, name):
    assert gpu_profile(written).name == name


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("RTX 3060", ("rtx-3060-8gb (8GB)", "rtx-3060 (12GB)", "rtx-3060-laptop (6GB)")),
        ("4060 ti", ("rtx-4060-ti-8gb (8GB)", "rtx-4060-ti-16gb (16GB)")),
        ("4060", ("rtx-4060 (8GB)", "rtx-4060-laptop (8GB)")),
        ("NVIDIA GeForce RTX 3060", ("rtx-3060-8gb (8GB)", "rtx-3060 (12GB)")),
        ("3080 laptop", ("rtx-3080-laptop (8GB)", "rtx-3080-laptop-16gb (16GB)")),
    ],
)
def test_of_several_all_are_listed(written, names):
    with pytest.raises(UserInputError) as refused:
        gpu_profile(written)
    assert str(refused.value).endswith(f"got '{written}', which may be any of {', '.join(names)}")


@pytest.mark.parametrize(
    ("written", "near"),
    [("rtx-3080-labtop", "rtx-3080-laptop"), ("rtx 3065", "rtx-306"), ("rtx-2070ti", "rtx-2070")],
)
def test_of_none_the_nearest_are_offered(written, near):
    with pytest.raises(UserInputError) as refused:
        gpu_profile(written)
    _, _, offered = str(refused.value).partition("did you mean ")
    assert near in offered
    assert len(offered.split(" or ")) <= 3
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("written", ["", "gpu", "laptop", "8GB", "voodoo", "RTX\n3060 x"])
def test_what_is_no_card(written):
    with pytest.raises(UserInputError, match="expected a card that `phase8-tune gpus` lists") as refused:
        gpu_profile(written)
    assert "\n" not in str(refused.value)


def written_file(folder: Path, text: str) -> Path:
    path = folder / "card.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_card_of_a_file(tmp_path):
    card = read_gpu_file(written_file(tmp_path, MINE))
    assert (card.name, card.title) == ("my-card-2000", "My Card 2000")
    assert card.shared_memory_per_block_bytes == 99 * 1024
    assert card.bandwidth.value == 448e9
    assert card.context_bytes.basis == card.launch_s.basis == "estimate"
    # what follows by a rule is that of the named cards
    named = gpu_profile("rtx-3060-laptop")  # 30 multiprocessors, too
    assert card.outside_bytes == named.outside_bytes
    assert math.isclose(card.launch_s.value, named.launch_s.value)
    assert chosen_profile(None, tmp_path / "card.yaml") == card


def test_a_named_card_written_out_is_the_same_card(tmp_path):
    card = gpu_profile("h200")
    assert read_gpu_file(written_file(tmp_path, yaml.safe_dump(card.model_dump()))) == card


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        ("title: My Card 2000\n", "", "title: expected this key, but it is missing"),
        ("bandwidth", "bandwith", "bandwith: unknown key; expected one of .*; did you mean bandwidth\\?"),
        ("8589934592", "8GB", "capacity_bytes: expected a whole number, got '8GB'"),
        ("8589934592", "0", "capacity_bytes: expected a number greater than 0, got 0"),
        ('"8.6"', "8.6", "compute_capability: expected a text.*, got 8.6"),
        ('"8.6"', '"6.1"', "compute_capability: expected one of 7.5, 8.0, .* got '6.1'"),
        ("448.0e+9", "-1", "bandwidth.value: expected a number of at least 0.0, got -1"),
        ("448.0e+9", "0", "bandwidth: expected a value greater than 0, got 0"),
        ("448.0e+9", ".nan", "bandwidth.value: expected a finite number"),
        ("specification", "hearsay", "bandwidth.basis: expected 'measured', 'specification' or"),
        ("{value: 448.0e+9, basis: specification, source: its box}", "1", "bandwidth: expected keys with"),
        ("multiprocessors: 30", "multiprocessors: x", "multiprocessors: expected a whole number, got 'x'"),
        ("title", "name: ../x\ntitle", "name: expected a text like"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_one_line(tmp_path, was, becomes, says):
    path = written_file(tmp_path, MINE.replace(was, becomes, 1))
    with pytest.raises(UserInputError, match=f"^{path}: {says}") as refused:
        read_gpu_file(path)
    assert "\n" not in str(refused.value)


def test_a_missing_file_and_a_name_beside_a_file(tmp_path):
    with pytest.raises(UserInputError, match=r"none.yaml: expected a description of a GPU \(a YAML file\)"):
        read_gpu_file(tmp_path / "none.yaml")
    with pytest.raises(UserInputError, match="--gpu-file: describes the card itself, got --gpu t4 too"):
        chosen_profile("t4", written_file(tmp_path, MINE))
