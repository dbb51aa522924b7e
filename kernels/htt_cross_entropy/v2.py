"""Version 2 of the head's loss: factored, the table never expanded, chunks that stay in L2.

A[t, i1, (k, b)] = Σ_a Hm_t[a, b] · cos φ_k · core1[i1, k, a] turns the head into v1 rows a token, K = r·d2:
logits [T·v1, v2] = A · core2ᵀ. FLOPs a token forward at small: 40.9 M with (23, 23), 29.5 M with (32, 16),
17 M with (64, 8), against 51.5 M dense; at medium (32, 32) K = 1024 = d: no gain. But A is 2·v1·r·d2 bytes a
token (173 KB at small, more than the logits' 101), passed three times in each direction. From HBM that would
cost more than the FLOPs saved, so a chunk is 128 tokens, 35 MB at small: within the L2 of an H200.
What it always saves is memory: neither the table (52 MB) nor its float32 gradient (103 MB) nor a large chunk
exists, which is what it is for, with small d2 for speed as well.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..products import accumulate_batched, multiply_batched
from ..versions import UnsupportedVersionError
from .factors import hidden_gradient, left_gradient, left_product
from .operator import Gradients, define_htt_cross_entropy
from .plan import (
    FACTORED_CHUNK_BYTES,
    Buffer,
    HeadShape,
    allocate,
    chunk_tokens,
    chunks,
    gradient_scale,
    head_shape,
    round_up,
    total_bytes,
)
from .rows import softmax_gradient
from .table import scaled_core_gradients

_ALIGNMENT = 8  # numbers: 16 bytes in 16-bit types
_LARGEST_FACTOR = 128  # of d1 and d2: one tile spans them, within 101 376 bytes of shared memory
_PARTS = 16  # in which the cores' gradients of a chunk are summed, to fill a GPU


def buffers(shape: HeadShape, dtype: torch.dtype, *, training: bool) -> dict[str, Buffer]:
    """Scratch of one call with h in dtype."""
    width, padded = round_up(shape.v2, _ALIGNMENT), round_up(shape.d2, _ALIGNMENT)
    rows, depth = shape.v1 * shape.rank, shape.rank * padded
    token_bytes = shape.v1 * (width + depth) * dtype.itemsize
    size = chunk_tokens(shape.tokens, token_bytes, FACTORED_CHUNK_BYTES)
    evaluation = {
        "left": Buffer(size=(rows, shape.d1), dtype=dtype),
        "right": Buffer(size=(width, shape.rank, padded), dtype=dtype),
        "a": Buffer(size=(size, rows, padded), dtype=dtype),
        "logits": Buffer(size=(size, shape.v1, width), dtype=dtype),
        "losses": Buffer(size=(shape.tokens,), dtype=torch.float32),
    }
    if not training:
        return evaluation
    parts = math.gcd(size, _PARTS)
    return evaluation | {
        "left_parts": Buffer(size=(_PARTS, rows, shape.d1), dtype=torch.float32),
        "right_parts": Buffer(size=(parts, width, depth), dtype=torch.float32),
    }


def scratch_bytes(shape: HeadShape, dtype: torch.dtype, *, training: bool) -> int:
    """Bytes that one call allocates beside its outputs."""
    return total_bytes(buffers(shape, dtype, training=training))


def differentiate(
    h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, targets: Tensor, vocab_size: int
) -> Gradients:
    shape = _shape(h, core1, core2, phase, targets, vocab_size)
    scratch = allocate(buffers(shape, h.dtype, training=True), h.device)
    scale = gradient_scale(h.dtype)
    grad_h = torch.empty(h.shape, dtype=h.dtype, device=h.device)
    _write_factors(core1, core2, phase, scratch)
    for part in chunks(shape.tokens, scratch["a"].shape[0]):
        a, gradient = _chunk_logits(h[part], targets[part], scratch, part, shape, scale, write=True)
        _add_right_gradient(a, gradient, scratch["right_parts"], first=part.start == 0)
        # A has served: its gradient takes its place
        torch.mm(gradient.flatten(0, 1), scratch["right"].flatten(1), out=_rows(a, shape))
        hidden_gradient(a, scratch["left"], grad_h[part], shape.d2, 1 / scale)
        left_gradient(a, h[part], scratch["left_parts"], shape.d2, first=part.start == 0)
    grad_left = scratch["left_parts"].sum(0).view(core1.shape) / scale
    grad_right = scratch["right_parts"].sum(0).view(scratch["right"].shape) / scale
    grad_core1, grad_phase = scaled_core_gradients(grad_left, core1, phase)
    grad_core2 = grad_right[: shape.v2, :, : shape.d2].contiguous()
    return scratch["losses"].mean(), grad_h, grad_core1, grad_core2, grad_phase


def evaluate(
    h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, targets: Tensor, vocab_size: int
) -> Tensor:
    shape = _shape(h, core1, core2, phase, targets, vocab_size)
    scratch = allocate(buffers(shape, h.dtype, training=False), h.device)
    _write_factors(core1, core2, phase, scratch)
    for part in chunks(shape.tokens, scratch["a"].shape[0]):
        _chunk_logits(h[part], targets[part], scratch, part, shape, 1.0, write=False)
    return scratch["losses"].mean()


def _shape(
    h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, targets: Tensor, vocab_size: int
) -> HeadShape:
    shape = head_shape(h, core1, core2, phase, targets, vocab_size)
    if max(shape.d1, shape.d2) > _LARGEST_FACTOR:
        raise UnsupportedVersionError(
            f"htt_cross_entropy v2: expected d1 and d2 of at most {_LARGEST_FACTOR}, "
            f"got ({shape.d1}, {shape.d2}); versions v1 and fast take any"
        )
    return shape


def _write_factors(core1: Tensor, core2: Tensor, phase: Tensor, scratch: dict[str, Tensor]) -> None:
    """cos φ · core1 and padded core2 in the compute dtype."""
    scratch["left"].copy_((core1 * torch.cos(phase)[:, None]).flatten(0, 1))
    right = scratch["right"].zero_()
    right[: core2.shape[0], :, : core2.shape[2]].copy_(core2)


def _chunk_logits(
    h: Tensor,
    targets: Tensor,
    scratch: dict[str, Tensor],
    part: slice,
    shape: HeadShape,
    scale: float,
    *,
    write: bool,
) -> tuple[Tensor, Tensor]:
    """A and logits of one chunk, its losses; with write, the logits become scale times their gradient."""
    n = h.shape[0]
    a, logits = scratch["a"][:n], scratch["logits"][:n]
    left_product(h, scratch["left"], a, shape.d2)
    torch.mm(_rows(a, shape), scratch["right"].flatten(1).t(), out=logits.flatten(0, 1))
    softmax_gradient(
        logits.flatten(1), targets, scratch["losses"][part], vocab_size=shape.vocab_size, v2=shape.v2,
        width=logits.shape[2], scale=scale, write=write,
    )  # fmt: skip
    return a, logits


def _rows(a: Tensor, shape: HeadShape) -> Tensor:
    """A [n, v1·r, padded] as the product takes it: [n·v1, r·padded]."""
    return a.view(a.shape[0] * shape.v1, -1)


def _add_right_gradient(a: Tensor, gradient: Tensor, parts: Tensor, *, first: bool) -> None:
    """parts [s, v2, r·padded] = or += gradientᵀ @ A, over s groups of the chunk's tokens."""
    n_parts = math.gcd(a.shape[0], parts.shape[0])
    grouped = gradient.view(n_parts, -1, gradient.shape[2]).transpose(1, 2)
    product = multiply_batched if first else accumulate_batched
    product(grouped, a.view(n_parts, -1, parts.shape[2]), parts[:n_parts])


_version = define_htt_cross_entropy("v2", differentiate, evaluate)


def htt_cross_entropy(
    h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, targets: Tensor, vocab_size: int
) -> Tensor:
    """Mean cross-entropy over tokens, a float32 scalar; as the reference, targets in [0, vocab_size).

    h [T, d] in float32, float16 or bfloat16, its rows contiguous; cores and phase float32; d1, d2 ≤ 128.
    Raises: UnsupportedVersionError without a GPU, for other dtypes or larger factors.
    """
    return _version(h, core1, core2, phase, targets, vocab_size)
