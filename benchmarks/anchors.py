"""The best public alternatives to single operations, on the same inputs; those at hand are measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels.gate_draws import GateShape
from ..kernels.htt_embedding.reference import expand_table
from ..kernels.versions import implementation

Anchor = Callable[..., Any]


def _flash(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> Tensor:
    """Causal flash attention over the whole sequence: a simpler function (dot product, no window)."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)


def _flex(shape: GateShape) -> Anchor:
    """FlexAttention with a Euclidean distance as score in the same window, compiled."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def visible(_b: Tensor, _h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (i >= j) & (i - j < shape.window)

    n = shape.n_seq
    mask = create_block_mask(visible, None, None, n, n, device="cuda")
    compiled: Any = torch.compile(flex_attention, dynamic=False)

    def attend(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> Tensor:
        q, k, v = (t.transpose(1, 2).contiguous() for t in (q, k, v))
        queries, keys = (t.float().square().sum(-1) for t in (q, k))

        def euclidean(dot: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return -torch.sqrt(queries[b, h, i] + keys[b, h, j] - 2 * dot + 1e-6)

        out: Tensor = compiled(q, k, v, score_mod=euclidean, block_mask=mask, scale=1.0)
        return out.transpose(1, 2)

    return attend


def _linear_loss(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Anchor:
    """A linear cross-entropy over the expanded table, the expansion included."""

    def run(h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, targets: Tensor, vocab: int) -> Tensor:
        return loss(h, expand_table(core1, core2, phase, vocab, h.shape[1]).to(h.dtype), targets)

    return run


def _full_logits(h: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(h, weight).float(), targets)


def _losses() -> dict[str, Anchor]:
    found: dict[str, Anchor] = {}
    native = getattr(F, "linear_cross_entropy", None)
    if native is not None:
        found["torch linear_cross_entropy"] = _linear_loss(lambda h, w, t: native(h, w, t))
    try:
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss
    except ImportError:
        pass
    else:
        liger = LigerFusedLinearCrossEntropyLoss()
        found["liger-kernel"] = _linear_loss(lambda h, w, t: liger(w, h, t))
    try:
        from cut_cross_entropy import linear_cross_entropy
    except ImportError:
        pass
    else:
        found["cut-cross-entropy"] = _linear_loss(lambda h, w, t: linear_cross_entropy(h, w, t))
    found["compiled full logits"] = _linear_loss(torch.compile(_full_logits, dynamic=False))
    return found


_COMPILED = (
    *("ar_ssm_scan", "rank_scan", "rank_weight", "mix_norm", "norm_potential", "layer_norm"),
    "htt_embedding",
)
"""Operations of which PyTorch's compiler makes an alternative."""


def anchors(operation: str, shape: GateShape) -> dict[str, Anchor]:
    """Public alternatives of an operation by name, with the operation's own arguments; may be empty."""
    if operation == "window_attention":
        return {"flash SDPA": _flash, "FlexAttention": _flex(shape)}
    if operation == "htt_cross_entropy":
        return _losses()
    if operation in _COMPILED:
        return {"compiled reference": torch.compile(implementation(operation, "reference"), dynamic=False)}
    return {}
