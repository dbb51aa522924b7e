"""The block from the other operations, whatever their versions: what `reference`, `v1` and `v2` run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..linear import LinearFork, linear
from ..versions import implementation

_PARTS = ("norm_potential", "bk_scan", "window_attention", "ar_ssm_scan", "mix_norm")


def splits(in_weight: Tensor, rank: int) -> list[int]:
    """Widths of what in_weight [·, d] makes of n: q, k, v [d each], u, v of the AR-SSM [R each], gate."""
    d = in_weight.shape[1]
    return [d, d, d, rank, rank, in_weight.shape[0] - 3 * d - 2 * rank]


def composed(choice: Mapping[str, str]) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """The block whose operations are those of `choice`, {operation: version}."""

    @functools.cache
    def parts() -> dict[str, Callable[..., Any]]:
        return {name: implementation(name, choice[name]) for name in _PARTS}

    def block(
        x: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        potential_weight: Tensor,
        potential_bias: Tensor,
        energy_re: Tensor,
        energy_im: Tensor,
        in_weight: Tensor,
        curvature: Tensor,
        beta: Tensor,
        sink: Tensor,
        out_weight: Tensor,
        gate_bias: Tensor,
        gate_weight: Tensor,
        gate_logit_bias: Tensor,
        decay: Tensor,
        theta: Tensor,
        global_weight: Tensor,
        global_bias: Tensor,
        conv_weight: Tensor,
        mix_weight: Tensor,
        mix_bias: Tensor,
        resolvent_scale: Tensor,
        resolvent_weight: Tensor,
        resolvent_bias: Tensor,
        n_heads: int,
        window: int,
        with_residual: bool,
        is_selective: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x + y, or y alone without the residual, and the resolvent g of the block's potential.

        x [B, N, d] in the compute dtype. Master weights: in_weight [3·d + 2·R + hidden, d], out_weight
        [d, d], gate_weight [R, hidden]; decay [R], a constant; energy_re, energy_im, curvature, beta, sink:
        0-dim, as the operations take them; the rest as in `norm_potential` and `mix_norm`. is_selective: for
        the backward keep x and what in_weight makes of it; what follows is computed again.
        Returns [B, N, d] in x's dtype, Re g and Im g [B, N] float32.
        Source: docs/model.md, Block.
        """
        run, (batch, n_seq, d) = parts(), x.shape

        def whole(x: Tensor, known: list[Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
            n, potential, x = run["norm_potential"](
                x, norm_weight, norm_bias, potential_weight, potential_bias
            )
            g_re, g_im = run["bk_scan"](potential, None, energy_re, energy_im)

            # One split, not a nested unbind: its backward writes the gradient of the product once
            product, n = LinearFork.apply(n, in_weight, None, known)  # type: ignore[no-untyped-call]
            *qkv, u, v_ssm, hidden = torch.split(product, splits(in_weight, decay.shape[0]), dim=-1)
            q, k, v = (t.view(batch, n_seq, n_heads, d // n_heads) for t in qkv)
            heads = run["window_attention"](q, k, v, curvature, beta, sink, window)
            local = linear(heads.reshape(batch, n_seq, d), out_weight)

            hidden = F.relu(hidden + gate_bias.to(x.dtype))
            gate_logits = linear(hidden, gate_weight, gate_logit_bias)
            ranked = run["ar_ssm_scan"](gate_logits, u, v_ssm, decay)

            y = run["mix_norm"](
                local, ranked, n, g_re, g_im, theta, global_weight, global_bias, conv_weight,
                mix_weight, mix_bias, resolvent_scale, resolvent_weight, resolvent_bias,
                x if with_residual else None,
            )  # fmt: skip
            return y, g_re, g_im

        if not is_selective or not torch.is_grad_enabled():
            return whole(x, None)
        results: tuple[Tensor, Tensor, Tensor]
        results = checkpoint(whole, x, [], use_reentrant=False, preserve_rng_state=False)
        return results

    return block
