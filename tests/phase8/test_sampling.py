"""Tokens are drawn as often as logits, temperature, top-k and top-p say, and the same with the same seed."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from phase8_tune.phase8.decoding import sample

LOGITS = torch.log(torch.tensor([[0.4, 0.05, 0.3, 0.15, 0.1]]))


def shares(count: int = 20_000, **choices) -> list[float]:
    """How often each token of LOGITS is drawn."""
    generator = torch.Generator().manual_seed(0)
    drawn = sample(LOGITS.expand(count, -1), generator=generator, **choices)
    return (torch.bincount(drawn, minlength=5) / count).tolist()


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({}, [0.4, 0.05, 0.3, 0.15, 0.1]),
        ({"top_k": 2}, [4 / 7, 0, 3 / 7, 0, 0]),
        ({"top_k": 1}, [1, 0, 0, 0, 0]),
        ({"top_k": 99}, [0.4, 0.05, 0.3, 0.15, 0.1]),
        ({"top_p": 0.6}, [4 / 7, 0, 3 / 7, 0, 0]),  # 0.4 alone does not reach 0.6
        ({"top_p": 0.39}, [1, 0, 0, 0, 0]),
        ({"top_p": 1e-9}, [1, 0, 0, 0, 0]),
        ({"top_p": 1.0}, [0.4, 0.05, 0.3, 0.15, 0.1]),
        ({"top_k": 3, "top_p": 0.5}, [4 / 7, 0, 3 / 7, 0, 0]),  # 0.4 of the 0.85 that are left is 0.47
        ({"top_k": 99, "top_p": 0.39}, [1, 0, 0, 0, 0]),
        ({"temperature": 0.5}, [0.16 / 0.285, 0.0025 / 0.285, 0.09 / 0.285, 0.0225 / 0.285, 0.01 / 0.285]),
        ({"temperature": 1e-30}, [1, 0, 0, 0, 0]),
        ({"temperature": 1e30}, [0.2, 0.2, 0.2, 0.2, 0.2]),
    ],
    ids=str,
)
def test_tokens_are_drawn_as_often_as_the_choices_say(choices: dict[str, Any], expected: list[float]) -> None:
    # Five standard deviations of a share of 20,000 draws are at most 0.018
    assert shares(**choices) == pytest.approx(expected, abs=0.018)
    assert [share == 0 for share in shares(**choices)] == [share == 0 for share in expected]


@given(
    st.lists(st.integers(-50, 50), min_size=1, max_size=20, unique=True),
    st.integers(1, 25),
    st.floats(0.01, 1),
    st.integers(0, 5),
)
def test_what_is_drawn_is_among_the_likeliest(logits: list[int], k: int, p: float, seed: int) -> None:
    row = torch.tensor([logits], dtype=torch.float64) / 10
    generator = torch.Generator().manual_seed(seed)
    (drawn,) = sample(row, top_k=k, top_p=p, generator=generator).tolist()
    rank = sorted(logits, reverse=True).index(logits[drawn])
    assert rank < k
    kept = torch.softmax(row.sort(descending=True).values[:, :k], dim=-1)[0]
    assert float(kept[:rank].sum()) < p + 1e-12


def test_temperature_zero_takes_the_likeliest_whatever_else_is_chosen() -> None:
    rows = torch.randn(50, 30, generator=torch.Generator().manual_seed(0))
    for choices in ({}, {"top_k": 3}, {"top_p": 0.2}):
        assert torch.equal(sample(rows, temperature=0, **choices), rows.argmax(dim=-1))


def test_the_same_seed_draws_the_same_and_rows_draw_for_themselves() -> None:
    def draw() -> Tensor:
        return sample(LOGITS.expand(64, -1), top_p=0.9, generator=torch.Generator().manual_seed(3))

    assert torch.equal(draw(), draw())
    assert len(set(draw().tolist())) > 1


def test_what_has_no_chance_is_never_drawn() -> None:
    row = torch.full((500, 6), float("-inf"))
    row[:, 4] = -1e30
    for choices in ({}, {"top_k": 5}, {"top_p": 0.9}, {"temperature": 1e30}, {"temperature": 0}):
        assert sample(row, **choices).tolist() == [4] * 500


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"temperature": -0.1}, "temperature: expected a number from 0, got -0.1"),
        ({"temperature": math.nan}, "temperature: expected a number from 0, got nan"),
        ({"temperature": math.inf}, "temperature: expected a number from 0, got inf"),
        ({"top_k": 0}, "top_k: expected a whole number from 1, got 0"),
        ({"top_p": 0.0}, "top_p: expected a number above 0 and up to 1, got 0.0"),
        ({"top_p": 1.5}, "top_p: expected a number above 0 and up to 1, got 1.5"),
    ],
    ids=str,
)
def test_choices_out_of_range_are_named(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(LOGITS, **choices)
