"""Seeded random inputs of every operation, for the gate: laid out in memory as the model lays them out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .ar_ssm_scan.reference import decays
from .gate_draws import Draw, GateInputs, GateShape, draw_cores


def draw_inputs(operation: str, shape: GateShape, dtype: torch.dtype, seed: int) -> tuple[GateInputs, ...]:
    """Random inputs of an operation: one set a form of its call (the BK scan has two: scalar, channel-wise).

    Raises: KeyError for an operation without inputs here.
    """
    draw = Draw(seed, dtype)
    return tuple(build(draw, shape) for build in _BUILDERS[operation])


def _layer_norm(draw: Draw, s: GateShape) -> GateInputs:
    d = s.d_model
    return GateInputs(
        compute={"x": draw.compute(s.batch, s.n_seq, d)},
        wide={"weight": draw.wide(d, std=0.3, mean=1.0), "bias": draw.wide(d, std=0.3)},
        arguments=lambda t, _: (t["x"], t["weight"], t["bias"]),
    )


def _norm_potential(draw: Draw, s: GateShape) -> GateInputs:
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


def _bk_scan_scalar(draw: Draw, s: GateShape) -> GateInputs:
    return GateInputs(
        compute={},
        wide={
            "onsite": draw.wide(s.batch, s.n_seq, std=1.5),
            "energy_re": draw.wide(std=0.3),
            "energy_im": draw.wide(std=0.01, mean=0.3),
        },
        arguments=lambda t, _: (t["onsite"], None, t["energy_re"], t["energy_im"]),
    )


def _bk_scan_channels(draw: Draw, s: GateShape) -> GateInputs:
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


def _window_attention(draw: Draw, s: GateShape) -> GateInputs:
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


def _ar_ssm_scan(draw: Draw, s: GateShape) -> GateInputs:
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


def _mix_norm(draw: Draw, s: GateShape) -> GateInputs:
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


def _mix_norm_without_residual(draw: Draw, s: GateShape) -> GateInputs:
    inputs = _mix_norm(draw, s)
    return GateInputs(
        compute={name: leaf for name, leaf in inputs.compute.items() if name != "residual"},
        wide=inputs.wide,
        arguments=lambda t, dtype: (*inputs.arguments({**t, "residual": t["local"]}, dtype)[:-1], None),
    )


_BLOCK_PARAMETERS = (
    *("norm_weight", "norm_bias", "potential_weight", "potential_bias", "energy_re", "energy_im"),
    *("in_weight", "curvature", "beta", "sink", "out_weight", "gate_bias", "gate_weight", "gate_logit_bias"),
    *("decay", "theta", "global_weight", "global_bias", "conv_weight", "mix_weight", "mix_bias"),
    *("resolvent_scale", "resolvent_weight", "resolvent_bias"),
)
_BLOCK_SCALARS = ("potential_bias", "energy_re", "energy_im", "curvature", "beta", "sink", "theta")


def _block(draw: Draw, s: GateShape) -> GateInputs:
    """A block away from what would make its check one of luck.

    One leaf holds the scalars: behind a whole block each alone has an error of luck. The gate's biases are
    about ±4: half of the hidden units are on, and none is so near the kink of its relu that rounding decides.
    |q| and |k| are about 1: at √D distances are so large that rounding q moves a weight by several percent.
    Im z is the model's at the start: near the real axis a resolvent meets a pole by chance.
    """
    d, hidden, narrow = s.d_model, s.d_model // 4, s.d_model**-0.5
    mix = _mix_norm(draw, s).wide
    in_weight = draw.wide(3 * d + 2 * s.rank + hidden, d, std=narrow)
    in_weight[: 2 * d] = (in_weight[: 2 * d] * (d // s.n_heads) ** -0.5).float().double()
    wide = {
        "norm_weight": draw.wide(d, std=0.3, mean=1.0),
        "norm_bias": draw.wide(d, std=0.3),
        "potential_weight": draw.wide(d, std=narrow),
        "scalars": draw.wide(7, std=0.1) + torch.tensor([0, 0, 1.4, 0.7, 0.7, 0, 1.0]).double(),
        "in_weight": in_weight,
        "out_weight": draw.wide(d, d, std=narrow),
        "gate_bias": draw.wide(hidden, std=0.3) + 4 * (-1.0) ** torch.arange(hidden),
        "gate_weight": draw.wide(s.rank, hidden, std=0.3 * hidden**-0.5),
        "gate_logit_bias": draw.wide(s.rank, std=0.3),
        **{name: mix[name] for name in ("global_weight", "global_bias", "conv_weight")},
        "mix_weight": mix["norm_weight"],
        "mix_bias": mix["norm_bias"],
        **{name: mix[name] for name in ("resolvent_scale", "resolvent_weight", "resolvent_bias")},
    }

    def arguments(t: dict[str, Tensor], dtype: torch.dtype) -> tuple[Any, ...]:
        kind = torch.float64 if dtype == torch.float64 else torch.float32
        given = {**t, **dict(zip(_BLOCK_SCALARS, t["scalars"].unbind(), strict=True))}
        given["decay"] = decays(s.rank, device=t["x"].device).to(kind)
        return given["x"], *(given[name] for name in _BLOCK_PARAMETERS), s.n_heads, s.window, True

    return GateInputs(compute={"x": draw.compute(s.batch, s.n_seq, d)}, wide=wide, arguments=arguments)


def _block_without_residual(draw: Draw, s: GateShape) -> GateInputs:
    inputs = _block(draw, s)
    return replace(inputs, arguments=lambda t, dtype: (*inputs.arguments(t, dtype)[:-1], False))


def _block_selective(draw: Draw, s: GateShape) -> GateInputs:
    inputs = _block(draw, s)
    return replace(inputs, arguments=lambda t, dtype: (*inputs.arguments(t, dtype), True))


def _bk_gate(draw: Draw, s: GateShape) -> GateInputs:
    return GateInputs(
        compute={
            "h": draw.compute(s.batch, s.n_seq, s.d_model),
            "abc": draw.compute(s.batch, s.n_seq, 3 * s.d_model),
        },
        wide={"weight": draw.wide(2), "bias": draw.wide(std=0.5)},
        arguments=lambda t, _: (t["h"], t["abc"], t["weight"], t["bias"]),
    )


def _rank_scan(draw: Draw, s: GateShape) -> GateInputs:
    matrix = draw.wide(s.rank, s.rank)
    matrix = (0.95 * matrix / torch.linalg.matrix_norm(matrix, ord=2)).float().double()
    return GateInputs(
        compute={},
        wide={"w": draw.wide(s.batch, s.n_seq, s.rank), "matrix": matrix},
        arguments=lambda t, _: (t["w"], t["matrix"]),
    )


def _spectral_norm(draw: Draw, s: GateShape) -> GateInputs:
    # Singular values well apart: the gradient is u·vᵀ of the first
    left, right = (torch.linalg.qr(draw.wide(s.rank, s.rank))[0] for _ in range(2))
    matrix = left * torch.linspace(1.3, 0.2, s.rank, dtype=torch.float64) @ right
    wide = {"matrix": matrix.float().double()}
    return GateInputs(compute={}, wide=wide, arguments=lambda t, _: (t["matrix"],))


def _block_scalars(draw: Draw, s: GateShape) -> GateInputs:
    wide = {name: draw.wide(mean=0.5) for name in ("epsilon", "log_curvature", "beta")}
    return GateInputs(compute={}, wide=wide, arguments=lambda t, _: tuple(t[name] for name in wide))


def _rank_weight(draw: Draw, s: GateShape) -> GateInputs:
    wide = {name: draw.wide(s.batch, s.n_seq) for name in ("g_re", "g_im")}
    for layer, (outputs, inputs) in enumerate([(32, 1), (1, 32), (1, 2)], start=1):
        wide[f"Q_{layer}"] = draw.wide(outputs, inputs, std=0.5)
        wide[f"q_{layer}"] = draw.wide(outputs, std=0.5)
    h = {"h": draw.compute(s.batch, s.n_seq, s.d_model)}
    return GateInputs(compute=h, wide=wide, arguments=lambda t, _: (t["h"], *(t[name] for name in wide)))


def _htt_embedding(draw: Draw, s: GateShape) -> GateInputs:
    # Half the positions hold tokens of few values: their gradients are sums over repeated rows
    tokens = draw.indices(s.batch, s.n_seq, below=s.vocab_size)
    tokens[:, ::2] %= 5
    tokens_on = cache(tokens.to)  # copied to a device once: whoever times a call times no copy

    def arguments(t: dict[str, Tensor], dtype: torch.dtype) -> tuple[Any, ...]:
        return tokens_on(t["core1"].device), t["core1"], t["core2"], t["phase"], t["positions"], dtype

    return GateInputs(
        compute={},
        wide={**draw_cores(draw, s, std=0.5), "positions": draw.wide(s.n_seq + 3, s.d_model)},
        arguments=arguments,
    )


def _htt_cross_entropy(draw: Draw, s: GateShape) -> GateInputs:
    targets = draw.indices(s.batch * s.n_seq, below=s.vocab_size)
    targets[0] = s.vocab_size - 1  # the last entry that exists, in the last row of the folded vocabulary
    targets_on = cache(targets.to)

    def arguments(t: dict[str, Tensor], _: torch.dtype) -> tuple[Any, ...]:
        h = t["h"]
        return h, t["core1"], t["core2"], t["phase"], targets_on(h.device), s.vocab_size

    return GateInputs(
        compute={"h": draw.compute(s.batch * s.n_seq, s.d_model)},
        wide=draw_cores(draw, s, std=0.3),
        arguments=arguments,
    )


_BUILDERS: dict[str, tuple[Callable[[Draw, GateShape], GateInputs], ...]] = {
    "htt_embedding": (_htt_embedding,),
    "layer_norm": (_layer_norm,),
    "norm_potential": (_norm_potential,),
    "bk_scan": (_bk_scan_scalar, _bk_scan_channels),
    "window_attention": (_window_attention,),
    "ar_ssm_scan": (_ar_ssm_scan,),
    "mix_norm": (_mix_norm, _mix_norm_without_residual),
    "block_scalars": (_block_scalars,),
    "block": (_block, _block_without_residual, _block_selective),
    "bk_gate": (_bk_gate,),
    "rank_weight": (_rank_weight,),
    "spectral_norm": (_spectral_norm,),
    "rank_scan": (_rank_scan,),
    "htt_cross_entropy": (_htt_cross_entropy,),
}
