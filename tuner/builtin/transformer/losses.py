"""Mean next-token cross-entropy of hidden states and a head, in four ways that differ in memory and time."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(hidden [T, d], head [V, d], targets [T] int64) → float32 scalar, or float64 where all of it is."""

_CHUNKS = 16
"""Parts of a batch whose logits exist at one time. A number of parts and not of rows: the same operations at
every batch, so that memory is a straight line in it."""


def dense_loss(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """All logits at once, [T, V] in the compute dtype and again in float32."""
    logits = F.linear(hidden, head)
    return F.cross_entropy(_accurate(logits), targets)


def chunked_loss(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Logits of a sixteenth of the rows at a time; gradients are made with them, in the forward pass."""
    dtype = _compute_dtype(hidden)
    with torch.autocast(_autocast_kind(hidden), enabled=False):
        if torch.is_grad_enabled():
            found: Tensor = _ChunkedLoss.apply(hidden, head, targets, dtype)  # type: ignore[no-untyped-call]
            return found
        head = head.to(dtype)
        parts = zip(_parts(hidden), _parts(targets), strict=True)
        sums = [F.cross_entropy(_accurate(F.linear(h.to(dtype), head)), t, reduction="sum") for h, t in parts]
        return torch.stack(sums).sum() / targets.numel()


def torch_linear_loss(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """PyTorch's own: `torch.nn.functional.linear_cross_entropy`, in as many chunks (2.13 has it)."""
    # Looked up by name: the oldest PyTorch that is supported lacks both
    function: Any = getattr(F, "linear_cross_entropy")  # noqa: B009
    options: Any = getattr(torch.nn, "LinearCrossEntropyOptions")  # noqa: B009
    dtype = _compute_dtype(hidden)
    rows = -(-targets.numel() // _CHUNKS)
    with torch.autocast(_autocast_kind(hidden), enabled=False):
        loss: Tensor = function(
            hidden.to(dtype), head.to(dtype), targets, options=options(batch_chunk_size=rows)
        )
    return _accurate(loss)


def liger_loss(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """liger-kernel's fused linear cross-entropy, a Triton kernel; it sums the head's gradient in float32."""
    transformers = importlib.import_module("liger_kernel.transformers")
    dtype = _compute_dtype(hidden)
    with torch.autocast(_autocast_kind(hidden), enabled=False):
        function: Any = transformers.LigerFusedLinearCrossEntropyLoss(accum_dtype=torch.float32)
        loss: Tensor = function(head.to(dtype), hidden.to(dtype), targets)
    return _accurate(loss)


_LOSSES: dict[str, Loss] = {
    "dense": dense_loss,
    "chunked": chunked_loss,
    "linear_cross_entropy": torch_linear_loss,
    "liger": liger_loss,
}


def loss_named(name: str) -> Loss:
    """The function of that name.

    Raises: ValueError for a name that is none; RuntimeError where what it needs is not installed.
    """
    if name not in _LOSSES:
        raise ValueError(f"loss: expected one of {', '.join(_LOSSES)}, got {name!r}")
    if name == "linear_cross_entropy" and not hasattr(torch.nn, "LinearCrossEntropyOptions"):
        raise RuntimeError(
            f"loss linear_cross_entropy: expected PyTorch 2.13 or newer, got {torch.__version__}"
        )
    if name == "liger" and importlib.util.find_spec("liger_kernel") is None:
        raise RuntimeError("loss liger: liger-kernel is not installed: pip install phase8-tune[liger]")
    return _LOSSES[name]


class _ChunkedLoss(torch.autograd.Function):
    """The sum's gradients are made chunk by chunk beside the loss, and scaled once the loss's own is known.

    They are those of the sum, not of the mean: float16 would round the mean's to nothing.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        weight = head.to(dtype)
        d_hidden = torch.empty_like(hidden)
        d_head = torch.zeros_like(head)
        total = _accurate(hidden.new_zeros(()))
        parts = zip(_parts(hidden), _parts(d_hidden), _parts(targets), strict=True)
        for rows, d_rows, truths in parts:
            rows = rows.to(dtype)
            logits = _accurate(F.linear(rows, weight))
            scores = torch.log_softmax(logits, dim=-1)
            total = total - scores.gather(1, truths[:, None]).sum()
            d_logits = scores.exp_()
            d_logits.scatter_add_(1, truths[:, None], -torch.ones_like(d_logits[:, :1]))
            d_logits = d_logits.to(dtype)
            d_rows.copy_(d_logits @ weight)
            d_head += d_logits.T @ rows
        ctx.save_for_backward(d_hidden, d_head)
        ctx.count = targets.numel()
        mean: Tensor = total / ctx.count
        return mean

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None, None]:
        d_hidden, d_head = ctx.saved_tensors
        scale = grads[0] / ctx.count
        return d_hidden.mul_(scale), d_head.mul_(scale), None, None


def _parts(rows: Tensor) -> tuple[Tensor, ...]:
    return rows.tensor_split(min(_CHUNKS, rows.shape[0]))


def _compute_dtype(hidden: Tensor) -> torch.dtype:
    """What autocast would have a product's operands be."""
    kind = _autocast_kind(hidden)
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


def _autocast_kind(tensor: Tensor) -> str:
    """Which autocast counts for a tensor: on meta tensors a step is traced as on CUDA."""
    return "cuda" if tensor.device.type == "meta" else tensor.device.type


def _accurate(tensor: Tensor) -> Tensor:
    """In float32 at least."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
