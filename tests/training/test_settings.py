"""The settings file: what loads, and one line for each way in which it can be nonsense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.phase8.config import PRESETS, preset
from phase8_tune.tuner.builtin.phase8.settings import Phase8Settings
from phase8_tune.tuner.training.recommended import to_yaml
from phase8_tune.tuner.training.settings import load_settings
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.workloads.settings import TrainingSettings

SEED = {"d_model": 512, "n_layers": 8, "n_seq": 512, "batch_size": 4}
MEASURED: dict[str, Any] = {
    "mean_tokens_per_s": 1138.0,
    "std_tokens_per_s": 51.0,
    "samples": 20,
    "peak_bytes": 2243088875,
    "peak_source": "nvml",
    "device": "Example GPU",
    "device_kind": "cuda",
    "versions": {"torch": "2.13.0", "cuda": None},
    "mode": "train",
    "budget_bytes": 8589934592,
    "digest": "0123456789abcdef",
}


def load(tmp_path: Path, data: object) -> TrainingSettings:
    path = tmp_path / "small.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data), encoding="utf-8")
    return load_settings(path)


def test_the_four_keys_of_the_seed_are_enough(tmp_path: Path) -> None:
    settings = load(tmp_path, SEED)
    assert settings.to_config() == preset("small", n_seq=512)
    assert settings.model == "small"
    assert settings.measured is None


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_found_by_its_shape(tmp_path: Path, name: str) -> None:
    config = preset(name, n_seq=64)
    data = {"d_model": config.d_model, "n_layers": config.n_layers, "n_seq": 64, "batch_size": 1}
    assert load(tmp_path, data).to_config() == config


def test_what_earlier_versions_do_not_know_is_said_where_it_is_set(tmp_path: Path) -> None:
    small = {"optimizer_state": "8bit", "master_weights": "bf16_sr", "gradient_checkpointing": "selective"}
    for key, value in small.items():
        settings = load(tmp_path, SEED | {key: value})
        text = to_yaml(settings)
        assert (settings.is_later, f"{key}: {value}\n" in text) == (True, True)
        assert "format_version: 4\n" in text
        assert load(tmp_path, text) == settings
        candidate = settings.to_candidate()
        assert candidate is not None
        assert candidate.axes[key] == value
        assert Phase8Settings.of_candidate(candidate, measured=None, predicted=None).is_later
    plain = load(tmp_path, SEED)
    assert not plain.is_later
    assert not [key for key in ("optimizer_state", "master_weights") if key in to_yaml(plain)]
    assert "gradient_checkpointing: false\n" in to_yaml(plain)


def test_a_shape_of_ones_own(tmp_path: Path) -> None:
    settings = load(tmp_path, SEED | {"d_model": 64, "n_heads": 4, "htt_rank": 4, "htt_dims": [16, 4]})
    assert settings.model == "custom"
    assert settings.to_config().htt_dims == (16, 4)


def test_measured_is_kept_and_checked_by_type_only(tmp_path: Path) -> None:
    settings = load(tmp_path, SEED | {"measured": MEASURED})
    assert settings.measured is not None
    assert settings.measured.digest == "0123456789abcdef"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"d_model": "512"}, "d_model: expected a whole number without quotes, got '512'"),
        ({"d_model": True}, "d_model: expected a whole number, got true"),
        ({"batch_size": 0}, "batch_size: expected a number greater than 0, got 0"),
        ({"batch_size": -4}, "batch_size: expected a number greater than 0, got -4"),
        ({"batch_size": 1.5}, "batch_size: expected a whole number"),
        ({"n_seq": None}, "n_seq: expected a whole number, got nothing"),
        ({"batchsize": 4}, "batchsize: unknown key; expected one of d_model"),
        ({"mixed_precision": "int8"}, "mixed_precision: expected 'bf16', 'fp16' or 'none', got 'int8'"),
        (
            {"gradient_checkpointing": "yes please"},
            "gradient_checkpointing: expected 'none', 'selective' or 'full', got 'yes please'",
        ),
        ({"variant": "phase9"}, "variant: expected 'phase8' or 'phase7'"),
        ({"triton_kernel_version": "v99"}, "triton_kernel_version: expected one of reference"),
        (
            {"use_triton_kernel": True},
            "triton_kernel_version: expected a Triton version with use_triton_kernel",
        ),
        ({"d_model": 600, "model": "small", "n_heads": 8, "htt_rank": 16}, "d_model: expected 512 for model"),
        ({"d_model": 600}, "n_heads: expected this key, but it is missing"),
        ({"n_heads": 7, "htt_rank": 16}, "d_model: expected a multiple of 4 and of n_heads=7"),
        ({"htt_dims": [2, 2]}, "htt_dims: their product must reach d_model=512"),
        ({"htt_dims": [2, 2, 2]}, "htt_dims: "),
        ({"measured": {"digest": "x"}}, "measured.mean_tokens_per_s: expected this key"),
        ({"measured": MEASURED | {"samples": "many"}}, "measured.samples: expected a whole number"),
        ({"measured": MEASURED | {"sample": 1}}, "measured.sample: unknown key; expected one of mean_tokens"),
    ],
)
def test_nonsense_is_one_line_with_file_and_key(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    with pytest.raises(UserInputError) as caught:
        load(tmp_path, SEED | change)
    assert str(caught.value).startswith(f"{tmp_path / 'small.yaml'}: {text}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "expected keys with values, got nothing"),
        ("- 1\n", "expected keys with values, got [1]"),
        ("d_model: [512\n", "expected valid YAML"),
        ("d_model: 512\n\tn_layers: 8\n", "line 2, column 1: expected plain spaces, got a tab"),
        ("when: 2026-99-99\n", "when: unknown key"),
        ("d_model: 512\nd_model: 1024\n", "the key 'd_model' is given twice"),
        ("[" * 5000, "expected a few levels of YAML"),
    ],
    ids=["empty", "list", "bracket", "tab", "date", "twice", "deep"],
)
def test_what_is_no_settings_file(tmp_path: Path, content: str, text: str) -> None:
    with pytest.raises(UserInputError) as caught:
        load(tmp_path, content)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_folder_and_bytes(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="there is no such file"):
        load_settings(tmp_path / "absent.yaml")
    with pytest.raises(UserInputError, match="got a directory"):
        load_settings(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00d")
    with pytest.raises(UserInputError, match="in UTF-8"):
        load_settings(tmp_path / "binary.yaml")


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_VALUES = st.recursive(
    _SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3)
)


@given(st.dictionaries(st.sampled_from(list(Phase8Settings.model_fields)), _VALUES, max_size=5))
def test_any_edit_loads_or_is_one_line(
    tmp_path_factory: pytest.TempPathFactory, edit: dict[str, Any]
) -> None:
    lines = 1
    try:
        load(tmp_path_factory.getbasetemp(), SEED | edit)
    except UserInputError as error:
        lines = len(str(error).splitlines())
    assert lines == 1
