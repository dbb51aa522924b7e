"""The study definitions that come with the package."""

from __future__ import annotations

import itertools

import pytest

from phase8_tune.kernels.versions import KERNEL_VERSIONS
from phase8_tune.phase8.config import preset
from phase8_tune.studies import packaged_studies, read_packaged
from phase8_tune.tuner.records.cells import cell_of
from phase8_tune.tuner.study.definition import load_definition
from phase8_tune.tuner.study.space import SearchSpace


def test_these_three_are_packaged() -> None:
    assert packaged_studies() == ("cpu", "default", "seed_table")


def test_an_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        read_packaged("../pyproject")


@pytest.mark.parametrize("name", packaged_studies())
def test_every_candidate_of_a_packaged_study_is_a_model_that_can_be_built(name: str) -> None:
    definition = load_definition(name)
    assert definition.name == name
    for line in SearchSpace(definition).lines:
        assert preset(line.model, n_seq=line.n_seq).parameter_count() > 0
        assert line.kernel_version in KERNEL_VERSIONS


def test_the_default_study_searches_every_kernel_version_of_this_installation() -> None:
    space = SearchSpace(load_definition("default"))
    assert {line.kernel_version for line in space.lines} == set(KERNEL_VERSIONS)
    assert len(space.lines) - len(space.savings) == 244  # what is predicted before a first run


def test_the_default_study_saves_memory_in_cells_that_it_has() -> None:
    space = SearchSpace(load_definition("default"))
    always = {cell_of(line) for line in space.lines if line not in space.savings}
    assert {cell_of(line) for line in space.savings} <= always
    assert {
        (line.optimizer_state, line.master_weights, line.gradient_checkpointing) for line in space.savings
    } == {
        ("fp32", "fp32", "selective"),
        *itertools.product(["8bit"], ["bf16_sr"], ["none", "selective", "full"]),
    }
    assert {line.kernel_version for line in space.savings} == {"fast"}


def test_the_seed_table_has_exactly_the_rows_of_the_seed() -> None:
    rows = {
        ("small", 256, 1), ("small", 256, 2), ("small", 256, 4), ("small", 256, 8),
        ("small", 512, 1), ("small", 512, 2), ("small", 512, 4),
        ("small", 1024, 1), ("small", 1024, 2),
        ("medium", 512, 1), ("medium", 512, 2), ("medium", 512, 4), ("medium", 1024, 1),
    }  # fmt: skip
    definition = load_definition("seed_table")
    candidates = definition.row_candidates()
    assert len(candidates) == 2 * 2 * len(rows)
    for variant, mode in itertools.product(("phase8", "phase7"), ("train", "forward")):
        of_one = [c for c in candidates if (c.variant, c.mode) == (variant, mode)]
        assert {(c.model, c.n_seq, c.batch_size) for c in of_one} == rows
    assert [c.variant for c in candidates] == ["phase8"] * 26 + ["phase7"] * 26  # the seed's come first
    assert {(c.kernel_version, c.gradient_checkpointing, c.mixed_precision) for c in candidates} == {
        ("reference", "full", "fp16")
    }
    assert (definition.timing.warmup, definition.timing.iterations) == (5, 20)


def test_the_cpu_study_needs_neither_triton_nor_a_gpu() -> None:
    [product] = load_definition("cpu").products
    values = product.values()
    assert values["kernel_version"] == ("reference",)
    assert values["mixed_precision"] == ("none",)
