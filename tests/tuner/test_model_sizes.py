"""Models of a size or a vocabulary of one's own: in a study, by an option, in the settings file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from phase8_tune.phase8.config import VOCAB_SIZE, Phase8Config, preset
from phase8_tune.tuner.builtin.phase8.settings import config_of
from phase8_tune.tuner.predict.lines import limits_of, line_under
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.records.frontier import settle, to_points
from phase8_tune.tuner.records.recommend import recommend
from phase8_tune.tuner.records.wording import model_order
from phase8_tune.tuner.report.tables import shared_settings
from phase8_tune.tuner.study.changes import with_models, with_vocab_size
from phase8_tune.tuner.study.definition import StudyDefinition, parse_definition
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.training.recommended import write_recommendations
from phase8_tune.tuner.training.settings import load_settings
from phase8_tune.tuner.values.candidate import DEFAULT_VOCAB_SIZE, Candidate
from phase8_tune.tuner.values.errors import UserInputError

from .report_records import make_candidate, make_record

STUDY: dict[str, Any] = {
    "name": "sizes",
    "axes": {
        "model": ["nano", "small"],
        "n_seq": [64],
        "batch_size": [1, 2],
        "kernel_version": ["reference"],
        "gradient_checkpointing": [False],
        "mixed_precision": ["none"],
    },
}
ROWS: dict[str, Any] = {
    "name": "rows",
    "defaults": {
        key: values[0] for key, values in STUDY["axes"].items() if key not in ("model", "batch_size")
    },
    "rows": [
        {"model": "nano", "batch_size": 1},
        {"model": {"d_model": 640, "n_layers": 10}, "batch_size": 1},
    ],
}


def study(**axes: Any) -> StudyDefinition:
    return parse_definition(yaml.safe_dump({**STUDY, "axes": STUDY["axes"] | axes}), "s.yaml")


def models_of(definition: StudyDefinition) -> list[str]:
    return list(dict.fromkeys(c.model for c in SearchSpace(definition).enumerate()))


def test_an_entry_of_the_axis_is_a_name_or_a_mapping() -> None:
    sizes = [
        {"d_model": 640, "n_layers": 10, "n_heads": 10, "htt_rank": 20},
        {"d_model": 96, "n_layers": 2, "n_heads": 3},
        "640x10h5",
        {"d_model": 512, "n_layers": 8, "n_heads": 8, "htt_rank": 16},
    ]
    definition = study(model=sizes)
    assert models_of(definition) == ["640x10", "96x2h3", "640x10h5", "small"]
    assert definition.digest() == study(model=["640×10", "96X2h3r3", "640x10h5r20", "small"]).digest()
    assert parse_definition(definition.to_yaml(), "copy") == definition
    for model in models_of(definition):
        assert preset(model, n_seq=64).parameter_count() > 0


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            {"d_model": 642, "n_layers": 10, "n_heads": 10, "htt_rank": 20},
            "d_model: expected a multiple of 4 and",
        ),
        ({"d_model": 640, "layers": 10}, "layers: unknown key; expected one of d_model, n_layers, n_heads,"),
        ({"d_model": 640}, "n_layers: expected this key, but it is missing"),
        ({"d_model": "640", "n_layers": 1}, "d_model: expected a whole number from 1 to 99999, got '640'"),
        ("600x10", "d_model: expected a multiple of 64, or n_heads and htt_rank beside it"),
        (
            "nanoo",
            "expected one of nano, small, base, medium, large, xl, xxl, giant, or d_model x n_layers",
        ),
        (640, "expected a text, got 640"),
    ],
)
def test_a_size_that_is_none_is_one_line_with_its_place(model: object, expected: str) -> None:
    with pytest.raises(UserInputError) as caught:
        study(model=["nano", model])
    assert str(caught.value).startswith(f"s.yaml: axes.model[1]: {expected}")
    assert "\n" not in str(caught.value)


def test_a_size_that_comes_twice_under_two_names_is_refused() -> None:
    with pytest.raises(UserInputError, match=r"axes\.model: expected every value once, got 'small' twice"):
        study(model=["small", {"d_model": 512, "n_layers": 8}])


def test_rows_have_sizes_and_a_vocabulary_too() -> None:
    rows = parse_definition(yaml.safe_dump(ROWS), "r.yaml")
    assert [(c.model, c.vocab_size) for c in rows.row_candidates()] == [("nano", 50257), ("640x10", 50257)]
    changed = with_vocab_size(rows, 8192)
    assert [c.vocab_size for c in changed.row_candidates()] == [8192, 8192]
    assert changed.digest() != rows.digest()
    assert models_of(with_models(rows, ["640x10"])) == ["640x10"]
    with pytest.raises(
        UserInputError, match=r"--model: expected one of the rows of study rows \(nano, 640x10\), got"
    ):
        with_models(rows, ["small"])


@pytest.mark.parametrize(
    ("asked", "models"),
    [
        (["small"], ["small"]),
        (["small", "nano"], ["nano", "small"]),
        (["640x10"], ["640x10"]),
        (["640x10", "nano"], ["nano", "640x10"]),
    ],
)
def test_models_that_are_asked_for_take_the_axis_over(asked: Sequence[str], models: list[str]) -> None:
    assert models_of(with_models(study(), asked)) == models


@pytest.mark.parametrize(
    ("asked", "models"),
    [
        (["xl"], [("xl",)]),
        (["nano", "640x10"], [("nano", "640x10"), ("nano",)]),
        (["640x10"], [("640x10",)]),
        (["nano", "small", "xl"], [("nano", "small", "xl"), ("nano",)]),
    ],
)
def test_of_several_products_each_keeps_its_own_and_the_widest_takes_what_is_new(
    asked: Sequence[str], models: list[tuple[str, ...]]
) -> None:
    narrow, wide = study(model=["nano"]), study(model=["nano", "small", "xl"])
    union = wide.model_copy(update={"axes": (wide.axes, narrow.axes)})
    axes: Any = with_vocab_size(with_models(union, asked), 8192).axes
    taken = axes if isinstance(axes, tuple) else (axes,)
    assert [product.model for product in taken] == models
    assert {product.vocab_size for product in taken} == {(8192,)}


def test_a_vocabulary_is_part_of_the_study_where_it_is_not_the_usual() -> None:
    plain = study()
    assert with_vocab_size(plain, DEFAULT_VOCAB_SIZE).digest() == plain.digest()
    other = with_vocab_size(plain, 8192)
    assert other.digest() == study(vocab_size=[8192]).digest() != plain.digest()
    assert {c.vocab_size for c in SearchSpace(other).enumerate()} == {8192}
    assert parse_definition(other.to_yaml(), "copy") == other
    with pytest.raises(
        UserInputError, match=r"axes.vocab_size\[0\]: expected a number greater than 0, got 0"
    ):
        study(vocab_size=[0])
    with pytest.raises(UserInputError, match=r"axes.vocab_size\[0\]: expected a number of at most 16777216"):
        study(vocab_size=[2**24 + 1])


def test_the_usual_vocabulary_is_the_models_and_goes_without_saying() -> None:
    plain, other = make_candidate(), make_candidate(vocab_size=8192)
    assert plain.vocab_size == DEFAULT_VOCAB_SIZE == VOCAB_SIZE
    assert Phase8Config(d_model=4, n_layers=1, n_heads=1, n_seq=1, htt_rank=1).vocab_size == VOCAB_SIZE
    assert "vocab_size" not in plain.identity()
    assert other.identity() == plain.identity() | {"vocab_size": 8192}
    assert Candidate.from_dict({k: v for k, v in plain.to_dict().items() if k != "vocab_size"}) == plain
    assert plain.describe() == "small 4×512 reference bf16 train"
    assert other.describe() == "small vocab8192 4×512 reference bf16 train"
    assert "vocabulary" not in shared_settings([make_record(plain)], "cuda")
    assert "vocabulary 8192" in shared_settings([make_record(other)], "cuda")


def test_a_line_is_predicted_with_its_size_and_vocabulary() -> None:
    profile = gpu_profile("rtx-3080-laptop")
    limits = limits_of(profile)
    key = line_under(make_candidate(model="640x10", vocab_size=8192, variant="phase7"), limits)
    assert config_of(key) == preset("640x10", n_seq=512, variant="phase7", vocab_size=8192)
    same = line_under(make_candidate(model="small"), limits)
    assert config_of(same) == preset("512x8", n_seq=512)
    assert len({key.digest("x"), same.digest("x")}) == 2


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"model": "640x10"}, "640x10"),
        ({"model": "640x10h5r24"}, "640x10h5r24"),
        ({"model": "640x10", "variant": "phase7", "vocab_size": 8192}, "640x10-phase7-vocab8192"),
        ({"vocab_size": 257}, "small-vocab257"),
    ],
)
def test_the_recommended_file_is_the_model_that_was_measured(
    tmp_path: Path, change: dict[str, Any], name: str
) -> None:
    candidate = make_candidate(**change)
    points = recommend(to_points([make_record(candidate)]))
    (path,) = write_recommendations(points, tmp_path)
    assert path.name == f"{name}.yaml"
    settings = load_settings(path)
    assert settings.to_candidate() == candidate
    assert (settings.model, settings.vocab_size) == (candidate.model, candidate.vocab_size)
    write_recommendations([], tmp_path)  # no longer recommended
    assert list(tmp_path.iterdir()) == []


def test_each_vocabulary_has_a_recommendation_of_its_own() -> None:
    records = [make_record(make_candidate(vocab_size=size)) for size in (50257, 8192)]
    assert [p.candidate.vocab_size for p in recommend(to_points(records))] == [8192, 50257]
    assert len(settle(records)) == 2


def test_a_settings_file_that_is_not_what_its_model_says_is_refused(tmp_path: Path) -> None:
    (path,) = write_recommendations(
        recommend(to_points([make_record(make_candidate(model="640x10"))])), tmp_path
    )
    path.write_text(path.read_text().replace("n_layers: 10", "n_layers: 12"))
    with pytest.raises(UserInputError, match="n_layers: expected 10 for model: 640x10"):
        load_settings(path)
    path.write_text(path.read_text().replace("model: 640x10", "model: my-640x10"))
    settings = load_settings(path)
    candidate = settings.to_candidate()
    assert candidate is not None
    assert candidate.model == "640x12"


def test_models_stand_in_the_order_of_their_sizes() -> None:
    names = ["xl", "other", "640x10", "nano", "small", "96x2h3", "another"]
    assert sorted(names, key=lambda name: model_order("phase8", name)) == [
        "96x2h3",
        "nano",
        "small",
        "640x10",
        "xl",
        "another",
        "other",
    ]
