"""The fast loss: one product whose epilogue exponentiates, two gradient products, no pass over the logits.

Estimate for one H200 at small (d = 512, V = 50257), a token, bf16, ns: version 1 spends 74 on each of three
products (51.6 MFLOP at 700 TFLOP/s in cuBLAS) and 47 on the row kernel (202 KB at 4.3 TB/s): 270. Here the
row kernel is gone (its 1.6 KB of sums stay), and the first product runs in Triton with 50 k exp2 (14 ns
of the special function units, half hidden): 74 + 15 + 2 · 74 = 237. At medium 443 + 47 becomes 443 + 20.
Alternatives that lose: normalising inside the loads of the two gradient products (in Triton, from registers:
20 % slower on 103 MFLOP, to save what is saved here anyway); computing logits twice (51.6 MFLOP more); the
factored head with 23 × 23 (K = 16 · 23, padded to 512 in a kernel: as many FLOPs as dense; or 166 KB a token
through memory: version 2). Where d2 is small, version 2 has fewer FLOPs and may win.

Evaluation never writes logits: each tile of the product is reduced to a maximum and a sum a row.
float16 has too little range for the exponentials, and float32 products are cuBLAS's strength: both train as
version 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ..device_limits import multiprocessor_count, shared_memory_limit
from . import v1
from .dense import add_table_gradient, chunk_buffers, gradient_buffers, hidden_gradient, table_buffer
from .exponentials import (
    exponentials_kernel,
    finish_rows_kernel,
    losses_kernel,
    persistent_exponentials_kernel,
    target_logit_kernel,
)
from .operator import Gradients, define_htt_cross_entropy
from .plan import Buffer, HeadShape, allocate, chunks, head_shape, logits_chunk_tokens, total_bytes
from .table import contract_table, expand_table

EXPONENTIAL_DTYPES = frozenset({torch.bfloat16})
"""Compute dtypes trained through exponentials: those that hold exp(±80)."""

_SPARE_BYTES = 16_384  # shared memory left to reductions and to layouts that change
_EVALUATION_TOKENS = 8192  # a chunk's maxima and sums: 3 KB a token


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductTile:
    """Block sizes of the product h @ Eᵀ: tokens, columns, and depth of one step."""

    tokens: int
    columns: int
    depth: int
    num_warps: int
    num_stages: int
    persistent: bool = False

    def shared_bytes(self, dtype: torch.dtype) -> int:
        """Shared memory of the operands in flight, and of a persistent program's result on its way out."""
        operands = (self.tokens + self.columns) * self.depth * dtype.itemsize * self.num_stages
        return operands + (self.tokens * self.columns * dtype.itemsize if self.persistent else 0)


def product_tile(dtype: torch.dtype, limit_bytes: int, *, aligned: bool = True) -> ProductTile:
    """Block sizes for a compute dtype and a block's shared memory limit.

    aligned: rows of h and of the table begin on multiples of 16 bytes, as descriptors need. A persistent
    program finds room on the large GPUs since Hopper alone, all of which have descriptors in hardware.
    """
    if dtype == torch.float32:
        return ProductTile(tokens=64, columns=64, depth=32, num_warps=4, num_stages=2)
    large = ProductTile(tokens=128, columns=256, depth=64, num_warps=8, num_stages=3)
    small = ProductTile(tokens=128, columns=128, depth=32, num_warps=4, num_stages=4)
    tiles = ([replace(large, persistent=True)] if aligned else []) + [large]
    return next((tile for tile in tiles if tile.shared_bytes(dtype) + _SPARE_BYTES <= limit_bytes), small)


def _smallest_tile_columns(dtype: torch.dtype) -> int:
    """Columns of the narrowest tile of any device: sizes the sums the same everywhere."""
    return product_tile(dtype, 0).columns


def buffers(shape: HeadShape, dtype: torch.dtype, *, training: bool) -> dict[str, Buffer]:
    """Scratch of one call with h in dtype."""
    if training and dtype not in EXPONENTIAL_DTYPES:
        return v1.buffers(shape, dtype, training=True)
    size = logits_chunk_tokens(shape, dtype) if training else min(shape.tokens, _EVALUATION_TOKENS)
    sums = Buffer(size=(size * -(-shape.columns // _smallest_tile_columns(dtype)),), dtype=torch.float32)
    per_token = Buffer(size=(shape.tokens,), dtype=torch.float32)
    common = {"table": table_buffer(shape, dtype), "target_logits": per_token, "sums": sums}
    if not training:
        return common | {"losses": per_token, "tops": sums}
    scaled_h = Buffer(size=(size, shape.d_model), dtype=dtype)
    own = {"scaled_h": scaled_h, "inverse": Buffer(size=(size,), dtype=torch.float32)}
    return common | own | chunk_buffers(shape, dtype) | gradient_buffers(shape, dtype)


def scratch_bytes(shape: HeadShape, dtype: torch.dtype, *, training: bool) -> int:
    """Bytes that one call allocates beside its outputs."""
    return total_bytes(buffers(shape, dtype, training=training))


def differentiate(
    h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, targets: Tensor, vocab_size: int
) -> Gradients:
    if h.dtype not in EXPONENTIAL_DTYPES:
        return v1.differentiate(h, core1, core2, phase, targets, vocab_size)
    shape = head_shape(h, core1, core2, phase, targets, vocab_size)
    scratch = allocate(buffers(shape, h.dtype, training=True), h.device)
    table, inverse = scratch["table"], scratch["inverse"]
    grad_h = torch.empty(h.shape, dtype=h.dtype, device=h.device)
    expand_table(core1, core2, phase, shape, table)
    for part in chunks(shape.tokens, scratch["logits"].shape[0]):
        n = part.stop - part.start
        p, scaled_h = scratch["logits"][:n], scratch["scaled_h"][:n]
        tiles = _product(h[part], targets[part], scratch, part, shape, training=True)
        finish_rows_kernel[(n,)](
            h[part], table, targets[part], scratch["target_logits"][part], p, scratch["sums"],
            scratch["losses"][part], inverse, scaled_h, vocab_size, shape.columns, h.stride(0), tiles,
            D=shape.d_model, BLOCK_T=triton.next_power_of_2(tiles),
            BLOCK_H=triton.next_power_of_2(shape.d_model), BLOCK_V=64, BLOCK_D=64, num_warps=4,
        )  # fmt: skip
        hidden_gradient(p, table, scratch["hidden_parts"], grad_h[part], row_scale=inverse)
        add_table_gradient(p, scaled_h, scratch["table_gradient"], first=part.start == 0)
    cores = contract_table(scratch["table_gradient"], core1, core2, phase, shape, scratch, 1.0)
    return scratch["losses"].mean(), grad_h, *cores


def evaluate(
    h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, targets: Tensor, vocab_size: int
) -> Tensor:
    shape = head_shape(h, core1, core2, phase, targets, vocab_size)
    scratch = allocate(buffers(shape, h.dtype, training=False), h.device)
    expand_table(core1, core2, phase, shape, scratch["table"])
    for part in chunks(shape.tokens, _EVALUATION_TOKENS):
        tiles = _product(h[part], targets[part], scratch, part, shape, training=False)
        losses_kernel[(part.stop - part.start,)](
            scratch["target_logits"][part], scratch["sums"], scratch["tops"], scratch["losses"][part], tiles,
            BLOCK_T=triton.next_power_of_2(tiles), num_warps=4,
        )  # fmt: skip
    return scratch["losses"].mean()


def _product(
    h: Tensor, targets: Tensor, scratch: dict[str, Tensor], part: slice, shape: HeadShape, *, training: bool
) -> int:
    """The target's logits and the product of one chunk with its epilogue; returns its tiles a row."""
    limit = shared_memory_limit(h.device)
    aligned = all(
        size * h.element_size() % 16 == 0 for size in (shape.d_model, h.stride(0), h.storage_offset())
    )
    tile = product_tile(h.dtype, limit, aligned=aligned)
    tiles = -(-shape.columns // tile.columns)
    table, target_logits, n = scratch["table"], scratch["target_logits"][part], h.shape[0]
    target_logit_kernel[(n,)](
        h, table, targets, target_logits, h.stride(0), shape.d_model, shape.vocab_size,
        BLOCK=triton.next_power_of_2(shape.d_model), num_warps=4,
    )  # fmt: skip
    sums = scratch["sums"]
    tops = sums if training else scratch["tops"]
    exponentials = scratch["logits"][:n] if training else None
    precision = "ieee" if h.dtype == torch.float32 else "tf32"
    options = {
        "D": shape.d_model, "TRAINING": training, "PRECISION": precision,
        "BLOCK_N": tile.tokens, "BLOCK_V": tile.columns, "BLOCK_D": tile.depth,
        "num_warps": tile.num_warps, "num_stages": tile.num_stages,
    }  # fmt: skip
    count = tiles * triton.cdiv(n, tile.tokens)
    if tile.persistent:
        programs = min(count, multiprocessor_count(h.device))
        persistent_exponentials_kernel[(programs,)](
            TensorDescriptor.from_tensor(h, [tile.tokens, tile.depth]),
            TensorDescriptor.from_tensor(table, [tile.columns, tile.depth]),
            None if exponentials is None
            else TensorDescriptor.from_tensor(exponentials, [tile.tokens, tile.columns]),
            targets, target_logits, sums, tops, n, shape.vocab_size, tiles, programs, **options,
        )  # fmt: skip
    else:
        exponentials_kernel[(count,)](
            h, table, targets, target_logits, sums if exponentials is None else exponentials, sums, tops,
            n, shape.vocab_size, shape.columns, h.stride(0), tiles, **options,
        )  # fmt: skip
    return tiles


_version = define_htt_cross_entropy("fast", differentiate, evaluate)


def htt_cross_entropy(
    h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, targets: Tensor, vocab_size: int
) -> Tensor:
    """Mean cross-entropy over tokens, a float32 scalar; as the reference, targets in [0, vocab_size).

    h [T, d] in float32, float16 or bfloat16, its rows contiguous; cores and phase float32.
    Raises: UnsupportedVersionError without a GPU or for other dtypes.
    """
    return _version(h, core1, core2, phase, targets, vocab_size)
