"""The parameter counts of docs/model.md, to the digit, from the formula and from the model itself."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.phase8.config import (
    PRESETS,
    SIZE_KEYS,
    Phase8Config,
    is_size_name,
    preset,
    size_name,
    size_name_of,
)
from phase8_tune.phase8.model import Phase8Model

COUNTS = [
    ("small", 256, 10_619_295),
    ("small", 512, 10_750_367),
    ("small", 1024, 11_012_511),
    ("medium", 512, 77_902_839),
    ("medium", 1024, 78_427_127),
    ("xxl", 1024, 492_869_413),
    ("giant", 1024, 1_070_210_530),
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
    with pytest.raises(ValueError, match="nano, small, base, medium, large, xl, xxl, giant"):
        preset("tiny", n_seq=8)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("640x10", "640x10"),
        ("640×10", "640x10"),
        ("0640X010h10r20", "640x10"),
        ("640x10h5", "640x10h5"),
        ("640x10r24", "640x10r24"),
        ("600x10h10r20", "600x10h10r20"),
        ("512x8", "small"),
        ("128x4", "nano"),
        ("128x4r4", "128x4r4"),
        ("1536x24h24r48", "xl"),
        ("1920x30", "xxl"),
        ("2496x39", "giant"),
        ({"d_model": 640, "n_layers": 10, "n_heads": 10, "htt_rank": 20}, "640x10"),
        ({"d_model": 640, "n_layers": 10}, "640x10"),
        ({"d_model": 128, "n_layers": 4, "n_heads": 2, "htt_rank": 8}, "nano"),
        ({"d_model": 96, "n_layers": 3, "n_heads": 3}, "96x3h3"),
    ],
)
def test_a_size_has_one_name(given, name):
    assert size_name(given) == size_name(name) == name
    assert is_size_name(name)
    assert preset(name, n_seq=64) == preset(given, n_seq=64) if isinstance(given, str) else True


def test_heads_and_rank_follow_the_rule_of_the_presets():
    assert preset("640x10", n_seq=64) == Phase8Config(
        d_model=640, n_layers=10, n_heads=10, n_seq=64, htt_rank=20
    )
    by_rule = [
        name for name in PRESETS if preset(name, n_seq=1).htt_rank * 32 == preset(name, n_seq=1).d_model
    ]
    assert by_rule == [name for name in PRESETS if name != "nano"]
    assert {preset(name, n_seq=1).head_dim for name in PRESETS} == {64}


_SIZES = st.builds(
    lambda heads, width, layers, rank: {
        "d_model": heads * width * 4,
        "n_layers": layers,
        "n_heads": heads,
        "htt_rank": rank,
    },
    *(st.integers(1, top) for top in (16, 40, 40, 64)),
)


@given(
    st.one_of(
        _SIZES, st.sampled_from([{k: getattr(preset(n, n_seq=1), k) for k in SIZE_KEYS} for n in PRESETS])
    )
)
def test_a_name_says_the_whole_size(size):
    name = size_name(size)
    config = preset(name, n_seq=32, variant="phase7", vocab_size=300)
    assert {key: getattr(config, key) for key in SIZE_KEYS} == size
    assert (config.n_seq, config.variant, config.vocab_size) == (32, "phase7", 300)
    assert is_size_name(name)
    assert size_name_of(config) == size_name_of(replace(config, htt_dims=config.embedding_dims)) == name
    assert size_name_of(replace(config, window=32)) is None


@given(st.text(alphabet="0123456789xXhr× nao", max_size=12))
def test_any_text_is_a_size_or_an_error(text):
    try:
        name = size_name(text)
    except ValueError:
        assert not is_size_name(text)
        return
    assert size_name(name) == name
    assert preset(name, n_seq=8) == preset(text, n_seq=8)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        ("600x10", "d_model: expected a multiple of 64, or n_heads and htt_rank beside it"),
        ("642x10h10r20", "d_model: expected a multiple of 4 and of n_heads=10, got 642"),
        ("640x10h7", "d_model: expected a multiple of 4 and of n_heads=7, got 640"),
        ("640x0", "n_layers: expected a whole number from 1 to 99999, got 0"),
        (
            "123456x1",
            "model: expected one of nano, small, base, medium, large, xl, xxl, giant, or d_model x n_layers",
        ),
        ({"n_layers": 10}, "d_model: expected this key, but it is missing"),
        (
            {"d_model": 640, "n_layers": 10, "heads": 5},
            "heads: unknown key; expected one of d_model, n_layers",
        ),
        ({"d_model": 640.0, "n_layers": 10}, "d_model: expected a whole number from 1 to 99999, got 640.0"),
        ({"d_model": 640, "n_layers": True}, "n_layers: expected a whole number from 1 to 99999, got True"),
        ({"d_model": 10**6, "n_layers": 1}, "d_model: expected a whole number from 1 to 99999, got 1000000"),
    ],
)
def test_what_is_no_size_is_named(size, text):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        size_name(size)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(("name", "vocab_size"), [("640x10", 50257), ("96x2h3", 8192), ("nano", 256)])
def test_formula_is_the_model_of_a_size_and_a_vocabulary_of_ones_own(name, vocab_size):
    config = preset(name, n_seq=64, vocab_size=vocab_size)
    assert config.parameter_count() == built_count(config)


@pytest.mark.parametrize("variant", ["phase8", "phase7"])
@pytest.mark.parametrize("low_rank_ffn", [True, False])
def test_products_are_counted_as_the_model_has_them(variant, low_rank_ffn):
    config = replace(preset("nano", n_seq=8), variant=variant, low_rank_ffn=low_rank_ffn)
    with torch.device("meta"):
        model = Phase8Model(config)
    assert config.product_count() == sum(p.numel() for p in model.product_weights())
