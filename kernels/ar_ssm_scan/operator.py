"""The decayed sum as a custom op, with the gates in PyTorch around it: version 2 of the AR-SSM scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
from torch import Tensor

from ..device_limits import require_triton_device
from ..segments import Segmentation, chunked, maps_shape, require_float32, segmentation
from ..versions import UnsupportedVersionError
from .decayed import decayed_sum
from .maps import sum_maps

TOKENS = 8
"""Tokens loaded at once, and the unit of a segment's length."""

SEGMENTS = 64
"""Of a row, or of a chunk of one."""

_LENGTH = 16  # tokens a segment of a chunk: a launch more costs about as many steps
_CHUNKS = 64  # at most: 128 programs at rank 32, one for nearly every multiprocessor of an H200

BLOCK = 16
"""Channels a program: a full 32-byte sector at 16 bits, and two programs a row at rank 32."""

COMPUTE_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
Scan = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def require_supported(version: str, gate_logits: Tensor, u: Tensor, v: Tensor, decay: Tensor) -> None:
    """Refuse what the kernels do not compute.

    Raises: UnsupportedVersionError for a device without Triton, for other or mixed dtypes, and for a decay
    that requires a gradient: the decays are constants of the model, and no version here differentiates them.
    """
    require_triton_device(u, f"ar_ssm_scan {version}")
    require_float32("ar_ssm_scan", version, decay=decay)
    if u.dtype not in COMPUTE_DTYPES or not gate_logits.dtype == u.dtype == v.dtype:
        raise UnsupportedVersionError(
            f"ar_ssm_scan {version}: expected gate_logits, u and v in the same of float32, float16 and "
            f"bfloat16, got {gate_logits.dtype}, {u.dtype} and {v.dtype}; version 'reference' takes them"
        )
    if decay.requires_grad:
        raise UnsupportedVersionError(
            f"ar_ssm_scan {version}: expected a constant decay, got one that requires a gradient; "
            "detach it, or use version 'reference', which differentiates it"
        )


def channel_block(rank: int) -> int:
    """Channels a program takes of `rank`, a power of two."""
    return min(int(triton.next_power_of_2(rank)), BLOCK)


def configuration(n_seq: int, rank: int) -> Segmentation:
    """How rows are cut; long ones into chunks."""
    short = {"segments": SEGMENTS, "block": channel_block(rank), "tokens": TOKENS}
    return long_rows(n_seq, rank) or segmentation(n_seq, **short)


def long_rows(n_seq: int, rank: int) -> Segmentation | None:
    """The chunks of a row that is long enough for them."""
    block = channel_block(rank)
    return chunked(n_seq, segments=SEGMENTS, length=_LENGTH, most=_CHUNKS, block=block, tokens=TOKENS)


def scan_grid(cut: Segmentation, batch: int, rank: int) -> tuple[int, int, int]:
    """Programs of every kernel of the scan."""
    return triton.cdiv(rank, cut.block), batch, cut.chunks


def scan_constants(cut: Segmentation) -> dict[str, int]:
    """What every kernel of the scan is compiled for, and its warps."""
    sizes = {"SEGMENTS": cut.segments, "BLOCK": cut.block, "TOKENS": TOKENS}
    return sizes | {"num_warps": cut.num_warps}


def define_ar_ssm_scan(version: str) -> Scan:
    """Register phase8::decayed_sum_<version>, reversed its own backward; return the AR-SSM scan over it."""

    def new_maps(x: Tensor) -> Tensor:
        batch, n_seq, rank = x.shape
        return x.new_empty(maps_shape(long_rows(n_seq, rank), batch, 2, rank))

    @torch.library.custom_op(
        f"phase8::decayed_sum_{version}",
        mutates_args=(),
        schema="(Tensor x, Tensor decay, bool reverse) -> (Tensor, Tensor)",
    )
    def decayed(x: Tensor, decay: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
        """The sums, and the scratch of the kernels: the maps of segments."""
        x, decay = x.contiguous(), decay.contiguous()
        y, maps = torch.empty_like(x), new_maps(x)
        batch, n_seq, rank = x.shape
        cut = configuration(n_seq, rank)
        sizes, constants = (n_seq, rank, cut.length), {"REVERSE": reverse, **scan_constants(cut)}
        if cut.chunks > 1:
            sum_maps[scan_grid(cut, batch, rank)](x, decay, maps, *sizes, **constants)
        decayed_sum[scan_grid(cut, batch, rank)](
            x, decay, maps, y, *sizes, CHUNKED=cut.chunks > 1, **constants
        )
        return y, maps

    @decayed.register_fake
    def _(x: Tensor, decay: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
        return x.new_empty(x.shape), new_maps(x)

    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[1])
        ctx.reverse = inputs[2]

    def differentiate(ctx: Any, grad: Tensor, _: Tensor) -> Any:
        return decayed(grad, *ctx.saved_tensors, not ctx.reverse)[0], None, None

    decayed.register_autograd(differentiate, setup_context=setup_context)

    def scan(gate_logits: Tensor, u: Tensor, v: Tensor, decay: Tensor) -> Tensor:
        require_supported(version, gate_logits, u, v, decay)
        gate = torch.sigmoid(gate_logits.float())
        state: Tensor = decayed((1.0 - decay) * gate * u.float(), decay, False)[0]
        return (gate * v.float() * state).to(u.dtype)

    return scan
