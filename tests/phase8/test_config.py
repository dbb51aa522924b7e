"""The parameter counts of docs/model.md, to the digit, from the formula and from the model itself."""

import pytest
import torch

from phase8_tune.phase8.config import PRESETS, Phase8Config, preset
from phase8_tune.phase8.model import Phase8Model

COUNTS = [
    ("small", 256, 10_619_295),
    ("small", 512, 10_750_367),
    ("small", 1024, 11_012_511),
    ("medium", 512, 77_902_839),
    ("medium", 1024, 78_427_127),
]


def built_count(config: Phase8Config) -> int:
    with torch.device("meta"):
        model = Phase8Model(config)
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("name", "n_seq", "count"), COUNTS)
def test_counts_of_the_definition(name, n_seq, count):
    config = preset(name, n_seq=n_seq)
    assert config.parameter_count() == count
    assert built_count(config) == count


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("variant", ["phase8", "phase7"])
def test_formula_is_the_model(name, variant):
    config = preset(name, n_seq=128, variant=variant)
    assert config.parameter_count() == built_count(config)


def test_formula_covers_ffn_and_other_dims():
    config = Phase8Config(
        d_model=48, n_layers=2, n_heads=3, n_seq=32, htt_rank=5, htt_dims=(16, 4), low_rank_ffn=True
    )
    assert config.parameter_count() == built_count(config)


def test_phase7_leaves_out_the_head_side():
    full, ablated = (preset("small", n_seq=256, variant=v).parameter_count() for v in ("phase8", "phase7"))
    assert full - ablated == 929_511 - 2 * 512


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"d_model": 0}, "d_model"),
        ({"d_model": 30}, "d_model"),
        ({"n_layers": -1}, "n_layers"),
        ({"n_heads": 3}, "d_model"),
        ({"n_seq": 1.5}, "n_seq"),
        ({"htt_dims": (4, 4)}, "htt_dims"),
        ({"htt_dims": (0, 400)}, "htt_dims"),
        ({"variant": "phase9"}, "variant"),
        ({"window": True}, "window"),
    ],
)
def test_impossible_shapes_are_named(change, named):
    valid = {"d_model": 32, "n_layers": 1, "n_heads": 2, "n_seq": 16, "htt_rank": 4}
    with pytest.raises(ValueError, match=f"^{named}: expected|^{named}: their product"):
        Phase8Config(**(valid | change))


def test_unknown_preset_lists_the_known():
    with pytest.raises(ValueError, match="nano, small, base, medium, large, xl"):
        preset("tiny", n_seq=8)
