"""Study definitions: what is accepted, and the one line for everything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from phase8_tune.studies import packaged_studies
from phase8_tune.tuner.builtin.phase8 import spec as phase8_spec
from phase8_tune.tuner.study.definition import load_definition, parse_definition
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.values.errors import UserInputError

AXES = """\
name: tiny
axes:
  model: [nano, small]
  n_seq: [64, 128]
  batch_size: [1, 2, 4]
  kernel_version: [reference]
  gradient_checkpointing: [false]
  mixed_precision: [none]
search: {trials: 5, seed: 0}
"""
ROWS = """\
name: table
defaults: {kernel_version: reference, gradient_checkpointing: true, mixed_precision: fp16}
modes: [train, forward]
rows:
  - {model: nano, n_seq: 64, batch_size: 1}
  - {model: nano, n_seq: 64, batch_size: 2, mixed_precision: none}
"""


def message_for(text: str) -> str:
    with pytest.raises(UserInputError) as caught:
        parse_definition(text, "s.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_row_takes_what_it_does_not_state_from_the_defaults() -> None:
    candidates = parse_definition(ROWS, "s.yaml").row_candidates()
    assert [c.describe() for c in candidates] == [
        "nano 1×64 reference fp16 checkpointing train",
        "nano 1×64 reference fp16 checkpointing forward",
        "nano 2×64 reference none checkpointing train",
        "nano 2×64 reference none checkpointing forward",
    ]


@pytest.mark.parametrize(
    ("given", "instead", "expected"),
    [
        ("[1, 2, 4]", "[1, 2, 0]", "axes.batch_size[2]: expected a number greater than 0, got 0"),
        ("[1, 2, 4]", "[1, -4]", "axes.batch_size[1]: expected a number greater than 0, got -4"),
        ("[1, 2, 4]", "[two]", "axes.batch_size[0]: expected a whole number, got 'two'"),
        ("[1, 2, 4]", "[true]", "axes.batch_size[0]: expected a whole number, got true"),
        ("[1, 2, 4]", "[1.0]", "axes.batch_size[0]: expected a whole number, got 1.0"),
        ("[1, 2, 4]", "[]", "axes.batch_size: expected a non-empty list, got []"),
        ("[1, 2, 4]", "8", "axes.batch_size: expected a list, got 8"),
        ("[1, 2, 4]", "", "axes.batch_size: expected a list, got nothing"),
        ("[1, 2, 4]", "[1, 2, 1]", "axes.batch_size: expected every value once, got 1 twice"),
        ("batch_size", "batch", "axes.batch: unknown key; expected one of model, n_seq, batch_size, "),
        ("[nano, small]", "[nano, tiny]", "axes.model[1]: expected one of nano, small, base, medium,"),
        ("[reference]", "[v9]", "axes.kernel_version[0]: expected one of reference, v1, v2, fast, got 'v9'"),
        ("[none]", "[fp8]", "axes.mixed_precision[0]: expected 'bf16', 'fp16' or 'none', got 'fp8'"),
        ("trials: 5", "trials: 0", "search.trials: expected a number greater than 0, got 0"),
        ("trials: 5", "time_limit_s: .inf", "search.time_limit_s: expected a finite number, got inf"),
        ("trials: 5", "stall: {growth: 0.1}", "search.stall.measurements: expected this key, but"),
        ("trials: 5", "trails: 5", "search.trails: unknown key; expected one of trials, startup_trials, "),
        ("name: tiny", "name: a/b", "name: expected a text like "),
        ("name: tiny\n", "", "name: expected this key, but it is missing"),
        ("search:", "rows: []\nsearch:", "rows: expected a non-empty list, got []"),
        ("search:", "modes: [train]\nsearch:", "modes: expected only beside rows, got it beside axes"),
        ("search:", "name: two\nsearch:", "line 9, column 1: expected valid YAML: the key 'name' is"),
        ("search:", "3: 4\nsearch:", "3: expected a text as key, got 3"),
        ("axes:", "axes", "line 3, column 8: expected valid YAML: could not find expected ':'"),
        (AXES, "", "expected keys with values, got nothing"),
        (AXES, "- 1", "expected keys with values, got [1]"),
        (AXES, "name: x", "expected either axes or rows, got neither"),
        (AXES, "[" * 4000, "expected a few levels of YAML, got too many inside each other"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(given: str, instead: str, expected: str) -> None:
    assert given in AXES
    assert message_for(AXES.replace(given, instead, 1)).startswith(f"s.yaml: {expected}")


@pytest.mark.parametrize(
    ("given", "instead", "expected"),
    [
        ("kernel_version: reference, ", "", "rows[0].kernel_version: expected this key here or in defaults"),
        ("batch_size: 2, mixed_precision: none", "batch_size: 1", "rows[1]: expected every row once, "),
        ("batch_size: 2", "batch_size: 2, mode: train", "rows[1].mode: unknown key; expected one of model, "),
        ("batch_size: 2", "batch_size: 0", "rows[1].batch_size: expected a number greater than 0, got 0"),
        ("modes: [train, forward]", "modes: [trian]", "modes[0]: expected 'train' or 'forward', got 'trian'"),
    ],
)  # fmt: skip
def test_rows_are_checked_too(given: str, instead: str, expected: str) -> None:
    assert given in ROWS
    assert message_for(ROWS.replace(given, instead, 1)).startswith(f"s.yaml: {expected}")


def test_kernel_versions_that_are_not_installed_are_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(phase8_spec, "KERNEL_VERSIONS", ("reference", "v1"))
    definition = parse_definition(AXES.replace("[reference]", "[reference, v1, fast]"), "s.yaml")
    assert definition.missing_versions == ("fast",)
    assert definition.products[0].values()["kernel_version"] == ("reference", "v1")
    assert "axes.kernel_version: expected at least one version of this installation (reference, v1)" in (
        message_for(AXES.replace("[reference]", "[v2, fast]"))
    )
    assert "rows[0].kernel_version: expected a version of this installation" in (
        message_for(ROWS.replace("kernel_version: reference", "kernel_version: fast"))
    )


def test_the_digest_follows_what_is_measured_and_not_how_long() -> None:
    digest = parse_definition(AXES, "s.yaml").digest()
    assert parse_definition(AXES.replace("trials: 5", "trials: 50"), "x").digest() == digest
    assert parse_definition(AXES + "timing: {iterations: 7}\n", "x").digest() != digest
    assert parse_definition(AXES.replace("[64, 128]", "[64]"), "x").digest() != digest


@pytest.mark.parametrize("name", packaged_studies())
def test_a_definition_written_out_is_read_back_equal(name: str) -> None:
    definition = load_definition(name)
    assert parse_definition(definition.to_yaml(), "copy") == definition


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: größe".encode("latin-1"))
    cases = {
        str(tmp_path / "none.yaml"): "there is no such file",
        str(tmp_path): "got a directory",
        str(latin): "in UTF-8, got the byte 0xf6 at offset 8",
        "no_such_study": "expected one of cpu, default, seed_table, or the path of a YAML file",
    }
    for path, expected in cases.items():
        with pytest.raises(UserInputError, match=expected) as caught:
            load_definition(path)
        assert path in str(caught.value)


def test_timing_is_what_the_definition_says() -> None:
    timing = parse_definition(AXES + "timing: {iterations: 3, warmup: 1}\n", "x").timing
    assert (timing.warmup, timing.iterations, timing.timeout_s) == (1, 3, 300.0)


BOUNDS = AXES.replace("batch_size: [1, 2, 4]", "batch_size: {min: 2, max: 300}")


def test_a_batch_may_lie_between_bounds() -> None:
    space = SearchSpace(parse_definition(BOUNDS, "s.yaml"))
    assert {space.batches(line) for line in space.lines} == {range(2, 301)}
    assert space.size() == 299 * len(space.lines)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ("{min: 5, max: 4}", "axes.batch_size: expected a min of at most max, got 5 and 4"),
        ("{max: 0}", "axes.batch_size.max: expected a number greater than 0, got 0"),
        ("{min: 1}", "axes.batch_size.max: expected this key, but it is missing"),
        ("{max: 4, step: 2}", "axes.batch_size.step: unknown key; expected one of min, max"),
        ("many", "axes.batch_size: expected a list, got 'many'"),
    ],
)
def test_bounds_are_checked(bounds: str, expected: str) -> None:
    assert message_for(BOUNDS.replace("{min: 2, max: 300}", bounds)).startswith(f"s.yaml: {expected}")


UNION = """
name: union
axes:
  - model: [nano, small]
    n_seq: [64]
    batch_size: {min: 1, max: 8}
    kernel_version: [reference]
    gradient_checkpointing: [false]
    mixed_precision: [none]
  - model: [nano]
    n_seq: [64, 128]
    batch_size: [4, 16]
    kernel_version: [reference]
    gradient_checkpointing: [false, true]
    mixed_precision: [none]
"""


def test_a_study_may_be_a_union_of_products() -> None:
    definition = parse_definition(UNION, "s.yaml")
    space = SearchSpace(definition)
    found = {(c.model, c.n_seq, c.gradient_checkpointing): space.batches(c) for c in space.lines}
    both = (*range(1, 9), 16)
    assert found == {
        ("nano", 64, "none"): both,
        ("small", 64, "none"): range(1, 9),
        ("nano", 64, "full"): (4, 16),
        ("nano", 128, "none"): (4, 16),
        ("nano", 128, "full"): (4, 16),
    }
    candidates = list(space.enumerate())
    assert len(candidates) == len(set(candidates)) == space.size()
    assert all(candidate in space for candidate in candidates)
    assert candidates[0].changed(model="small", n_seq=128) not in space
    assert parse_definition(definition.to_yaml(), "again") == definition


def test_a_fault_in_one_of_several_products_names_its_place() -> None:
    expected = "s.yaml: axes[1].kernel_version[0]: expected one of reference, v1, v2, fast, got 'best'"
    head, tail = UNION.rsplit("[reference]", 1)
    assert message_for(f"{head}[best]{tail}").startswith(expected)


def test_one_product_has_the_digest_it_always_had() -> None:
    """Of runs that were made when a study had one product of lists; bounds and unions are others."""
    digest = load_definition("cpu").digest()
    assert digest == "bce85d653dc47ae2bfc76020a2cd9cafd5d7bf84b3e82ee87984af6ce4e758da"
    assert len({parse_definition(text, "s.yaml").digest() for text in (AXES, BOUNDS)}) == 2
