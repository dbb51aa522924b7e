"""Seeded random inputs of every operation, for the gate: laid out in memory as the model lays them out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .ar_ssm_scan.reference import decays


@dataclass(frozen=True, kw_only=True, slots=True)
class GateShape:
    """Sizes of one check; an operation uses those that concern it."""

    batch: int
    n_seq: int
    d_model: int
    n_heads: int
    rank: int = 32
    window: int = 64
    vocab_size: int = 300
    htt_rank: int = 8

    def __str__(self) -> str:
        return f"B={self.batch} N={self.n_seq} d={self.d_model} H={self.n_heads}"


ODD_SHAPES = (
    GateShape(batch=16, n_seq=1, d_model=24, n_heads=2),
    GateShape(batch=2, n_seq=37, d_model=40, n_heads=2),
    GateShape(batch=1, n_seq=130, d_model=48, n_heads=3),
)
"""One position, N no multiple of a block, several windows; no power of two in d, d1, d2 or D.

One position comes 16 times: alone it would have one error a draw, and the check would be of luck.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class GateInputs:
    """Float64 leaves of one call, exactly representable in the types the call will have them in.

    compute: leaves in the compute dtype. wide: leaves in float32. arguments: from the cast leaves and the
    compute dtype to what the operation is called with.
    """

    compute: dict[str, Tensor]
    wide: dict[str, Tensor]
    arguments: Callable[[dict[str, Tensor], torch.dtype], tuple[Any, ...]]


class _Draw:
    """Normal numbers rounded to the dtype they will be used in, drawn on the CPU: the same on all devices."""

    def __init__(self, seed: int, dtype: torch.dtype) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._dtype = dtype

    def compute(self, *shape: int, std: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=self._generator) * std).to(self._dtype).double()

    def wide(self, *shape: int, std: float = 1.0, mean: float = 0.0) -> Tensor:
        return (torch.randn(shape, generator=self._generator) * std + mean).double()

    def indices(self, *shape: int, below: int) -> Tensor:
        return torch.randint(below, shape, generator=self._generator)


def draw_inputs(operation: str, shape: GateShape, dtype: torch.dtype, seed: int) -> tuple[GateInputs, ...]:
    """Random inputs of an operation: one set a form of its call (the BK scan has two: scalar, channel-wise).

    Raises: KeyError for an operation without inputs here.
    """
    draw = _Draw(seed, dtype)
    return tuple(build(draw, shape) for build in _BUILDERS[operation])


def _layer_norm(draw: _Draw, s: GateShape) -> GateInputs:
    d = s.d_model
    return GateInputs(
        compute={"x": draw.compute(s.batch, s.n_seq, d)},
        wide={"weight": draw.wide(d, std=0.3, mean=1.0), "bias": draw.wide(d, std=0.3)},
        arguments=lambda t, _: (t["x"], t["weight"], t["bias"]),
    )


def _norm_potential(draw: _Draw, s: GateShape) -> GateInputs:
    norm = _layer_norm(draw, s)
    # A standard deviation of 2: tanh(v/5) is bent, so its derivative is tested too
    potential = {
        "potential_weight": draw.wide(s.d_model, std=2 / math.sqrt(s.d_model)),
        "potential_bias": draw.wide(std=0.5),
    }
    return GateInputs(
        compute=norm.compute,
        wide=norm.wide | potential,
        arguments=lambda t, _: (t["x"], t["weight"], t["bias"], t["potential_weight"], t["potential_bias"]),
    )


def _bk_scan_scalar(draw: _Draw, s: GateShape) -> GateInputs:
    return GateInputs(
        compute={},
        wide={
            "onsite": draw.wide(s.batch, s.n_seq, std=1.5),
            "energy_re": draw.wide(std=0.3),
            "energy_im": draw.wide(std=0.01, mean=0.3),
        },
        arguments=lambda t, _: (t["onsite"], None, t["energy_re"], t["energy_im"]),
    )


def _bk_scan_channels(draw: _Draw, s: GateShape) -> GateInputs:
    shape = (s.batch, s.n_seq, s.d_model)
    return GateInputs(
        compute={},
        wide={
            "onsite": draw.wide(*shape),
            "hopping": torch.sigmoid(draw.wide(*shape)).float().double(),
            "energy_re": draw.wide(std=0.1, mean=0.9),
            "energy_im": draw.wide(std=0.01, mean=0.2),
        },
        arguments=lambda t, _: (t["onsite"], t["hopping"], t["energy_re"], t["energy_im"]),
    )


def _window_attention(draw: _Draw, s: GateShape) -> GateInputs:
    shape = (s.batch, s.n_seq, s.n_heads, s.d_model // s.n_heads)
    scale = shape[-1] ** -0.5  # |q| about 1, as after the projections at the start

    def arguments(t: dict[str, Tensor], _: torch.dtype) -> tuple[Any, ...]:
        q, k, v = torch.stack((t["q"], t["k"], t["v"]), dim=2).unbind(2)  # views of one projection
        return q, k, v, t["curvature"], t["beta"], t["sink"], s.window

    return GateInputs(
        compute={
            "q": draw.compute(*shape, std=scale),
            "k": draw.compute(*shape, std=scale),
            "v": draw.compute(*shape),
        },
        wide={
            "curvature": draw.wide(std=0.05, mean=0.7),
            "beta": draw.wide(std=0.05, mean=0.7),
            "sink": draw.wide(std=0.5),
        },
        arguments=arguments,
    )


def _ar_ssm_scan(draw: _Draw, s: GateShape) -> GateInputs:
    shape = (s.batch, s.n_seq, s.rank)

    def arguments(t: dict[str, Tensor], dtype: torch.dtype) -> tuple[Any, ...]:
        u, v = torch.cat((t["u"], t["v"]), dim=-1).chunk(2, dim=-1)  # views of one projection
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        return t["gate_logits"], u, v, decays(s.rank, device=u.device).to(wide)

    return GateInputs(
        compute={name: draw.compute(*shape) for name in ("gate_logits", "u", "v")},
        wide={},
        arguments=arguments,
    )


def _mix_norm(draw: _Draw, s: GateShape) -> GateInputs:
    d, tokens = s.d_model, (s.batch, s.n_seq)
    names = (
        *("local", "ranked", "n", "g_re", "g_im", "theta", "global_weight", "global_bias", "conv_weight"),
        *("norm_weight", "norm_bias", "resolvent_scale", "resolvent_weight", "resolvent_bias", "residual"),
    )
    return GateInputs(
        compute={
            "local": draw.compute(*tokens, d),
            "ranked": draw.compute(*tokens, s.rank),
            "n": draw.compute(*tokens, d),
            "residual": draw.compute(*tokens, d),
        },
        wide={
            "g_re": draw.wide(*tokens),
            "g_im": draw.wide(*tokens).abs(),
            "theta": draw.wide(std=0.2, mean=1.0),
            "global_weight": draw.wide(d, s.rank, std=s.rank**-0.5),
            "global_bias": draw.wide(d, std=0.3),
            "conv_weight": draw.wide(3, d, std=0.5),
            "norm_weight": draw.wide(d, std=0.3, mean=1.0),
            "norm_bias": draw.wide(d, std=0.3),
            "resolvent_scale": draw.wide(d, std=0.3, mean=1.0),
            "resolvent_weight": draw.wide(d, 2, std=0.5),
            "resolvent_bias": draw.wide(d, std=0.3),
        },
        arguments=lambda t, _: tuple(t[name] for name in names),
    )


def _mix_norm_without_residual(draw: _Draw, s: GateShape) -> GateInputs:
    inputs = _mix_norm(draw, s)
    return GateInputs(
        compute={name: leaf for name, leaf in inputs.compute.items() if name != "residual"},
        wide=inputs.wide,
        arguments=lambda t, dtype: (*inputs.arguments({**t, "residual": t["local"]}, dtype)[:-1], None),
    )


def _bk_gate(draw: _Draw, s: GateShape) -> GateInputs:
    return GateInputs(
        compute={
            "h": draw.compute(s.batch, s.n_seq, s.d_model),
            "abc": draw.compute(s.batch, s.n_seq, 3 * s.d_model),
        },
        wide={"weight": draw.wide(2), "bias": draw.wide(std=0.5)},
        arguments=lambda t, _: (t["h"], t["abc"], t["weight"], t["bias"]),
    )


def _rank_scan(draw: _Draw, s: GateShape) -> GateInputs:
    matrix = draw.wide(s.rank, s.rank)
    matrix = (0.95 * matrix / torch.linalg.matrix_norm(matrix, ord=2)).float().double()
    return GateInputs(
        compute={},
        wide={"w": draw.wide(s.batch, s.n_seq, s.rank), "matrix": matrix},
        arguments=lambda t, _: (t["w"], t["matrix"]),
    )


def _cores(draw: _Draw, s: GateShape, std: float) -> dict[str, Tensor]:
    v1, d1 = math.isqrt(s.vocab_size - 1) + 1, math.isqrt(s.d_model - 1) + 1
    return {
        "core1": draw.wide(v1, s.htt_rank, d1, std=std),
        "core2": draw.wide(-(-s.vocab_size // v1), s.htt_rank, -(-s.d_model // d1), std=std),
        "phase": draw.wide(s.htt_rank, std=0.5),
    }


def _htt_embedding(draw: _Draw, s: GateShape) -> GateInputs:
    # Half the positions hold tokens of few values: their gradients are sums over repeated rows
    tokens = draw.indices(s.batch, s.n_seq, below=s.vocab_size)
    tokens[:, ::2] %= 5

    def arguments(t: dict[str, Tensor], dtype: torch.dtype) -> tuple[Any, ...]:
        device = t["core1"].device
        return tokens.to(device), t["core1"], t["core2"], t["phase"], t["positions"], dtype

    return GateInputs(
        compute={},
        wide={**_cores(draw, s, std=0.5), "positions": draw.wide(s.n_seq + 3, s.d_model)},
        arguments=arguments,
    )


def _htt_cross_entropy(draw: _Draw, s: GateShape) -> GateInputs:
    targets = draw.indices(s.batch * s.n_seq, below=s.vocab_size)
    targets[0] = s.vocab_size - 1  # the last entry that exists, in the last row of the folded vocabulary

    def arguments(t: dict[str, Tensor], _: torch.dtype) -> tuple[Any, ...]:
        h = t["h"]
        return h, t["core1"], t["core2"], t["phase"], targets.to(h.device), s.vocab_size

    return GateInputs(
        compute={"h": draw.compute(s.batch * s.n_seq, s.d_model)},
        wide=_cores(draw, s, std=0.3),
        arguments=arguments,
    )


_BUILDERS: dict[str, tuple[Callable[[_Draw, GateShape], GateInputs], ...]] = {
    "htt_embedding": (_htt_embedding,),
    "layer_norm": (_layer_norm,),
    "norm_potential": (_norm_potential,),
    "bk_scan": (_bk_scan_scalar, _bk_scan_channels),
    "window_attention": (_window_attention,),
    "ar_ssm_scan": (_ar_ssm_scan,),
    "mix_norm": (_mix_norm, _mix_norm_without_residual),
    "bk_gate": (_bk_gate,),
    "rank_scan": (_rank_scan,),
    "htt_cross_entropy": (_htt_cross_entropy,),
}
