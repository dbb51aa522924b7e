"""Version 1 of the head's loss: the table expanded once a step, chunks of logits, cuBLAS and one row kernel.

A chunk's logits are written by cuBLAS, turned in place into their own gradient by one kernel a row, and read
by the two gradient products, which accumulate in float32. Estimate for one H200 (700 TFLOP/s in cuBLAS,
4.3 TB/s) at small, bf16: 3 × 51.6 MFLOP a token = 221 ns; the row kernel 202 KB = 47 ns; the float32 table
gradient, read and written once a chunk of 2048 tokens, 100 KB, hidden behind its product. At medium
3 × 103 MFLOP = 443 ns, and the same 47.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .dense import add_table_gradient, chunk_buffers, gradient_buffers, hidden_gradient, table_buffer
from .operator import Gradients, define_htt_cross_entropy
from .plan import Buffer, HeadShape, allocate, chunks, gradient_scale, head_shape, total_bytes
from .rows import softmax_gradient
from .table import contract_table, expand_table


def buffers(shape: HeadShape, dtype: torch.dtype, *, training: bool) -> dict[str, Buffer]:
    """Scratch of one call with h in dtype."""
    evaluation = {"table": table_buffer(shape, dtype), **chunk_buffers(shape, dtype)}
    return evaluation | (gradient_buffers(shape, dtype) if training else {})


def scratch_bytes(shape: HeadShape, dtype: torch.dtype, *, training: bool) -> int:
    """Bytes that one call allocates beside its outputs."""
    return total_bytes(buffers(shape, dtype, training=training))


def differentiate(
    h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, targets: Tensor, vocab_size: int
) -> Gradients:
    shape = head_shape(h, core1, core2, phase, targets, vocab_size)
    scratch = allocate(buffers(shape, h.dtype, training=True), h.device)
    table, scale = scratch["table"], gradient_scale(h.dtype)
    grad_h = torch.empty(h.shape, dtype=h.dtype, device=h.device)
    expand_table(core1, core2, phase, shape, table)
    for part in chunks(shape.tokens, scratch["logits"].shape[0]):
        logits = _chunk_logits(h[part], targets[part], scratch, part, shape, scale, write=True)
        hidden_gradient(logits, table, scratch["hidden_parts"], grad_h[part], scale=1 / scale)
        add_table_gradient(logits, h[part], scratch["table_gradient"], first=part.start == 0)
    cores = contract_table(scratch["table_gradient"], core1, core2, phase, shape, scratch, 1 / scale)
    return scratch["losses"].mean(), grad_h, *cores


def evaluate(
    h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, targets: Tensor, vocab_size: int
) -> Tensor:
    shape = head_shape(h, core1, core2, phase, targets, vocab_size)
    scratch = allocate(buffers(shape, h.dtype, training=False), h.device)
    expand_table(core1, core2, phase, shape, scratch["table"])
    for part in chunks(shape.tokens, scratch["logits"].shape[0]):
        _chunk_logits(h[part], targets[part], scratch, part, shape, 1.0, write=False)
    return scratch["losses"].mean()


def _chunk_logits(
    h: Tensor,
    targets: Tensor,
    scratch: dict[str, Tensor],
    part: slice,
    shape: HeadShape,
    scale: float,
    *,
    write: bool,
) -> Tensor:
    """Losses of one chunk; returns its logits or, with write, scale times their gradient."""
    logits = scratch["logits"][: h.shape[0]]
    torch.mm(h, scratch["table"].t(), out=logits)
    softmax_gradient(
        logits, targets, scratch["losses"][part], vocab_size=shape.vocab_size, v2=shape.columns,
        width=shape.columns, scale=scale, write=write,
    )  # fmt: skip
    return logits


_version = define_htt_cross_entropy("v1", differentiate, evaluate)


def htt_cross_entropy(
    h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, targets: Tensor, vocab_size: int
) -> Tensor:
    """Mean cross-entropy over tokens, a float32 scalar; as the reference, targets in [0, vocab_size).

    h [T, d] in float32, float16 or bfloat16, its rows contiguous; cores and phase float32.
    Raises: UnsupportedVersionError without a GPU or for other dtypes.
    """
    return _version(h, core1, core2, phase, targets, vocab_size)
