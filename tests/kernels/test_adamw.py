"""A step of AdamW with moments in 8 bits and weights in bfloat16: its code, its rounding, its numbers."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from phase8_tune.kernels.adamw import codes, fast, gate, reference
from phase8_tune.kernels.adamw.codes import BLOCK, decode, encode
from phase8_tune.kernels.adamw.gate import FORMS, check_adamw, step_scalars
from phase8_tune.kernels.adamw.random_bits import philox, random_16_bits, rounded_to_bfloat16
from phase8_tune.kernels.adamw.tensors import Moments, new_moments
from phase8_tune.kernels.versions import UnsupportedVersionError

VERSIONS = {"reference": reference.adamw, "fast": fast.adamw}
BETAS, EPSILON, DECAY = (0.9, 0.95), 1e-8, 0.1
COUNT = 700


def published_map(*, signed: bool) -> Tensor:
    """The numbers of the dynamic code in ascending order, as the paper builds them: decade by decade."""
    numbers = [0.0, 1.0]
    for decade in range(7):
        cells = 2 ** (decade if signed else decade + 1)
        edges = torch.linspace(0.1, 1, cells + 1, dtype=torch.float64)
        middles = (10.0 ** (decade - 6) * (edges[1:] + edges[:-1]) / 2).tolist()
        numbers += middles + ([-middle for middle in middles] if signed else [])
    return torch.tensor(sorted(numbers), dtype=torch.float64)


def shares(*, signed: bool, seed: int = 0) -> Tensor:
    """Numbers of [−1, 1] of all magnitudes, blocks of which each has a peak of 1."""
    generator = torch.Generator().manual_seed(seed)
    exponents = -8 * torch.rand(40 * BLOCK, generator=generator)
    numbers = torch.pow(10.0, exponents)
    if signed:
        numbers *= torch.where(torch.rand(len(numbers), generator=generator) < 0.5, -1.0, 1.0)
    numbers[::BLOCK] = 1.0
    return numbers


@pytest.mark.parametrize("signed", [True, False])
def test_codes_stand_for_the_numbers_of_the_published_map(signed: bool) -> None:
    every = torch.arange(256).to(torch.uint8)
    expected = published_map(signed=signed)
    assert len(expected) == 256
    torch.testing.assert_close(
        decode(every, torch.ones(1), signed=signed).double(), expected, rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("signed", [True, False])
def test_the_nearest_code_is_taken_but_nothing_without_a_sign_becomes_zero(signed: bool) -> None:
    numbers = shares(signed=signed)
    found, peaks = encode(numbers, signed=signed)
    nearest = (numbers.double()[:, None] - published_map(signed=signed)).abs().argmin(1)
    assert peaks.tolist() == [1.0] * 40
    if not signed:
        assert int((nearest == 0).sum()) > 100
        nearest = nearest.clamp_min(1)
    assert torch.equal(found.long(), nearest)


@pytest.mark.parametrize("signed", [True, False])
def test_what_was_coded_is_coded_the_same_again_and_zeros_stay(signed: bool) -> None:
    numbers = torch.cat([3.5 * shares(signed=signed), torch.zeros(BLOCK), torch.tensor([0.0, 1e-20])])
    found, peaks = encode(numbers, signed=signed)
    read = decode(found, peaks, signed=signed)
    assert torch.equal(read == 0, found == (codes.ZERO if signed else 0))
    assert read[-BLOCK - 2 : -1].tolist() == [0.0] * (BLOCK + 1)
    again, peaks_again = encode(read, signed=signed)
    assert torch.equal(again, found)
    assert torch.equal(peaks_again, peaks)


def test_philox_is_philox() -> None:
    """Known answers of the authors' own library, Random123."""
    zero = torch.zeros(1, dtype=torch.int64)
    all_ones = zero + 0xFFFFFFFF
    answers = [
        ((zero,) * 4, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((all_ones,) * 4, 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ]
    for counter, seed, answer in answers:
        assert " ".join(f"{int(word):08x}" for word in philox(counter, seed)) == answer


def test_rounding_is_unbiased_and_leaves_what_bfloat16_holds() -> None:
    """Each of 256 places between two neighbours: over 4096 draws the mean is the number."""
    draws = 4096
    lower, spacing = 1.0, 2.0**-7
    numbers = (lower + spacing * torch.arange(256) / 256).repeat(draws)
    bits = random_16_bits(len(numbers), seed=3, stream=1, step=torch.tensor(2.0))
    rounded = rounded_to_bfloat16(numbers, bits).float().view(draws, 256)
    assert set(rounded.unique().tolist()) == {lower, lower + spacing}
    share = (rounded == lower + spacing).double().mean(0)
    exact = torch.arange(256, dtype=torch.float64) / 256
    deviations = (share - exact) / (exact * (1 - exact) / draws).sqrt().clamp_min(1e-9)
    assert share[0] == 0
    assert deviations.abs().max() < 5
    assert abs(float((share - exact).sum() / ((exact * (1 - exact)).sum() / draws).sqrt())) < 4
    held = torch.tensor([0.0, -0.0, 1.5, -3.0, 2.0**-130, float("inf"), -float("inf"), float("nan")])
    after = rounded_to_bfloat16(held, torch.full((8,), 0xFFFF, dtype=torch.int32)).float()
    torch.testing.assert_close(after, held, rtol=0, atol=0, equal_nan=True)


def state(dtype: torch.dtype, *, is_8bit: bool, count: int = COUNT) -> tuple[Tensor, Moments]:
    weight = torch.randn(count, generator=torch.Generator().manual_seed(0)).to(dtype)
    return weight, new_moments(weight, is_8bit=is_8bit)


def trained(
    version: str,
    form: tuple[torch.dtype, bool],
    device: torch.device,
    *,
    steps: int = 3,
    seed: int = 11,
    stream: int = 4,
    **scalars: Any,
) -> tuple[Tensor, Moments]:
    dtype, is_8bit = form
    weight, moments = state(dtype, is_8bit=is_8bit)
    weight = weight.to(device)
    placed = [None if each is None else each.to(device) for each in moments]
    moments = Moments(*placed)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    for number in range(1, steps + 1):
        gradient = torch.randn(COUNT, generator=generator).to(device, dtype)
        step = step_scalars(number, device, **scalars)
        VERSIONS[version](weight, gradient, moments, step, BETAS, EPSILON, DECAY, seed, stream)
    return weight, moments


def test_the_reference_is_the_published_algorithm() -> None:
    """PyTorch's own in float64, over several steps."""
    weight, _ = state(torch.float64, is_8bit=False)
    moments = Moments(torch.zeros_like(weight), torch.zeros_like(weight))
    other = torch.nn.Parameter(weight.clone())
    optimizer = torch.optim.AdamW([other], lr=0.0625, betas=BETAS, eps=EPSILON, weight_decay=DECAY)
    generator = torch.Generator().manual_seed(1)
    for number in range(1, 6):
        gradient = torch.randn(COUNT, generator=generator, dtype=torch.float64)
        step = step_scalars(number, weight.device, rate=0.0625, scale=0.5)
        reference.adamw(weight, gradient, moments, step, BETAS, EPSILON, DECAY, 0, 0)
        other.grad = 0.5 * gradient
        optimizer.step()
    # The bias corrections come as float32
    torch.testing.assert_close(weight, other.detach(), rtol=0, atol=3e-8)
    torch.testing.assert_close(moments.first, optimizer.state[other]["exp_avg"], rtol=1e-12, atol=0)


@pytest.mark.parametrize("version", list(VERSIONS))
def test_a_step_is_within_its_budget(version: str, device: torch.device) -> None:
    result = check_adamw(version, device)
    assert result.ok, result.failures
    assert 0 < result.worst_ratio <= 1


def test_the_gate_notices_a_step_that_is_wrong(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> None:
    def without_decay(*args: Any) -> None:
        reference.adamw(*args[:6], 0.0, *args[7:])  # type: ignore[call-arg]

    monkeypatch.setattr(fast, "adamw", without_decay)
    result = check_adamw("fast", device)
    assert {failure.tensor for failure in result.failures} >= {
        f"weight of {count} in torch.float32, {bits}"
        for count, bits in itertools.product(gate.ODD_COUNTS[1:], ("8 bits", "float32"))
    }


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_kernel_draws_and_codes_what_the_reference_does(
    form: tuple[torch.dtype, bool], device: torch.device
) -> None:
    """The same random bits and codes: what differs is what lies on a border, in the last bit of float32."""
    (weight, moments), (other, others) = (trained(version, form, device) for version in VERSIONS)
    assert (weight != other).double().mean() < (0.01 if form[0] == torch.bfloat16 else 1)
    torch.testing.assert_close(weight.float(), other.float(), rtol=0.01, atol=1e-6)
    if form[1]:
        for one, another in zip(moments[:2], others[:2], strict=True):
            assert (one != another).double().mean() < 0.01
            assert (one.int() - another.int()).abs().max() <= 1


@pytest.mark.parametrize("version", list(VERSIONS))
def test_rounding_follows_from_seed_stream_and_step_alone(version: str, device: torch.device) -> None:
    form = (torch.bfloat16, True)
    first = trained(version, form, device, steps=1)[0]
    assert torch.equal(first, trained(version, form, device, steps=1)[0])
    for other in ({"seed": 12}, {"stream": 5}):
        assert not torch.equal(first, trained(version, form, device, steps=1, **other)[0])
    # Random numbers of weight and step, drawn for every number anew
    bits = [random_16_bits(64, seed=0, stream=0, step=torch.tensor(step)) for step in (1.0, 2.0)]
    assert len(set(bits[0].tolist())) > 60
    assert not torch.equal(*bits)


@pytest.mark.parametrize("version", list(VERSIONS))
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_skipped_step_changes_nothing(
    version: str, form: tuple[torch.dtype, bool], device: torch.device
) -> None:
    before, after = (trained(version, form, device, steps=1, skip=skip) for skip in (0.0, 1.0))
    start = state(form[0], is_8bit=form[1])
    for changed, one, other in zip(
        (before[0], *before[1]), (after[0], *after[1]), (start[0], *start[1]), strict=True
    ):
        if changed is None or one is None or other is None:
            assert changed is one is other
        else:
            assert torch.equal(one.cpu(), other)
            assert not torch.equal(changed, one)


def test_bfloat16_weights_move_by_less_than_their_spacing(device: torch.device) -> None:
    """16 steps of 1/32 of the spacing below 1, each of which rounding to nearest would lose."""
    rate = 2.0**-13
    assert (torch.ones((), dtype=torch.float32) - rate).bfloat16() == 1
    weight = torch.ones(4096, dtype=torch.bfloat16, device=device)
    moments = new_moments(weight, is_8bit=False)
    for number in range(1, 17):
        step = step_scalars(number, device, rate=rate)
        fast.adamw(weight, torch.ones_like(weight), moments, step, BETAS, EPSILON, 0.0, 0, 0)
    # Of the mean one deviation is 2⁻⁸ · √(16 / 32 / 4096)
    assert float(1 - weight.float().mean()) == pytest.approx(16 * rate, abs=4 * 2.0**-8 * (2.0**-13) ** 0.5)


def test_a_second_moment_that_is_not_zero_stays_so(device: torch.device) -> None:
    """Else a first moment would be divided by epsilon alone once a gradient is zero, as that of a row is
    whose token does not come."""
    weight, moments = torch.zeros(BLOCK, device=device), new_moments(torch.zeros(BLOCK), is_8bit=True)
    moments = Moments(*(each.to(device) for each in moments if each is not None))
    gradient = torch.full((BLOCK,), 1e-6, device=device)
    gradient[0] = 1.0
    for number in range(1, 4):
        args = (step_scalars(number, device, rate=1e-2, scale=1.0), BETAS, EPSILON, 0.0, 0, 0)
        VERSIONS["fast"](weight, gradient if number == 1 else 0 * gradient, moments, *args)
    assert float(weight.abs().max()) < 0.05


def test_what_the_kernel_does_not_take_is_said(device: torch.device) -> None:
    weight, moments = state(torch.float32, is_8bit=False)
    args = (moments, step_scalars(1, torch.device("cpu")), BETAS, EPSILON, DECAY, 0, 0)
    with pytest.raises(UnsupportedVersionError, match=r"adamw: expected .* got torch.float32 and torch.bf"):
        fast.adamw(weight, weight.bfloat16(), *args)
    with pytest.raises(UnsupportedVersionError, match="adamw: expected a contiguous weight"):
        fast.adamw(weight[::2], weight[::2], *args)


def test_the_operation_is_one_that_pytorch_can_trace(device: torch.device) -> None:
    weight, moments = state(torch.bfloat16, is_8bit=True, count=300)
    given = [weight, weight.clone(), *moments, *step_scalars(2, torch.device("cpu"))]
    args = (*(each.to(device) for each in given if each is not None), *BETAS, EPSILON, DECAY, 1, 2)
    torch.library.opcheck(fast._adamw, args, test_utils=("test_schema", "test_faketensor"))
