"""Compiles the scan kernels for GPUs that need not be there; prints the shared memory of their blocks.

A program of its own: under the interpreter, which the tests run in, Triton cannot compile.
"""

from __future__ import annotations

import json
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from phase8_tune.kernels.ar_ssm_scan import operator as ar_ssm_scan
from phase8_tune.kernels.ar_ssm_scan.decayed import decayed_sum, gated_backward, gated_forward
from phase8_tune.kernels.ar_ssm_scan.maps import gated_backward_maps, gated_maps, sum_maps
from phase8_tune.kernels.bk_gate import fast as bk_gate
from phase8_tune.kernels.bk_gate.gated import gate_backward, gate_forward
from phase8_tune.kernels.bk_gate.maps import gate_adjoint_maps, gate_maps
from phase8_tune.kernels.bk_scan import v2 as bk_scan
from phase8_tune.kernels.bk_scan.maps import adjoint_maps, resolvent_maps
from phase8_tune.kernels.bk_scan.resolvent import resolvent_backward, resolvent_forward
from phase8_tune.kernels.device_limits import SHARED_MEMORY_BYTES
from phase8_tune.kernels.rank_scan.recurrence import block_ends, scan_blocks
from phase8_tune.kernels.rank_scan.v2 import options as rank_options
from phase8_tune.kernels.segments import Segmentation

_COMPUTE = {
    *("h_ptr", "abc_ptr", "out_ptr", "grad_ptr", "grad_h_ptr", "grad_abc_ptr"),
    *("gate_logits_ptr", "u_ptr", "v_ptr", "grad_gate_logits_ptr", "grad_u_ptr", "grad_v_ptr"),
}
_ENERGY = {"ENERGY_RE": 0.9, "ENERGY_IM": 0.1}


def shared_bytes(kernel: Any, capability: tuple[int, int], constants: dict[str, Any], num_warps: int) -> int:
    """Shared memory of a block of `kernel`, compiled with these constants for a compute capability."""

    def kind(name: str) -> str:
        if name in constants:
            return "constexpr"
        if not name.endswith("_ptr"):
            return "i32"
        return "*bf16" if name in _COMPUTE else "*fp32"

    source = ASTSource(
        fn=kernel, signature={name: kind(name) for name in kernel.arg_names}, constexprs=constants
    )
    target = GPUTarget("cuda", 10 * capability[0] + capability[1], 32)
    compiled = triton.compile(source, target=target, options={"num_warps": num_warps})
    shared: int = compiled.metadata.shared
    return shared


def cases() -> dict[str, tuple[Any, dict[str, Any], int]]:
    """(kernel, constants, warps) of the largest tiles that the configurations choose: of one launch, where
    lanes exchange their maps in the kernel, and of the first of two, which does that for the second."""

    def tile(cut: Segmentation, tokens: int, **constants: Any) -> tuple[dict[str, Any], int]:
        sizes = {"SEGMENTS": cut.segments, "BLOCK": cut.block, "TOKENS": tokens}
        return sizes | constants, cut.num_warps

    def both(rule: Any, *width: int, tokens: int, **constants: Any) -> tuple[Any, Any]:
        """Of a row that is just one program, and of a long one."""
        one, first = rule(*width[:-1], 2047, *width[-1:]), rule(*width[:-1], 131072, *width[-1:])
        assert (one.chunks, first.chunks > 1) == (1, True)
        return tile(one, tokens, CHUNKED=False, **constants), tile(first, tokens, **constants)

    row, row_maps = both(bk_scan.configuration, 1, 1, tokens=8, HAS_HOPPING=False)
    channels, channel_maps = both(bk_scan.configuration, 1, 512, tokens=8, HAS_HOPPING=True)
    ranks, rank_maps = both(ar_ssm_scan.configuration, 32, tokens=8)
    forward, forward_maps = both(bk_gate.forward_configuration, 1, 512, tokens=bk_gate.TOKENS, **_ENERGY)
    backward, backward_maps = both(bk_gate.backward_configuration, 1, 512, tokens=bk_gate.TOKENS, **_ENERGY)
    reverse = {"REVERSE": True}
    blocks = {name: value for name, value in rank_options(64, reverse=True).items() if name != "num_warps"}
    rank_warps = rank_options(64, reverse=True)["num_warps"]
    return {
        "resolvent_forward, rows": (resolvent_forward, *row),
        "resolvent_backward, rows": (resolvent_backward, *row),
        "resolvent_maps, rows": (resolvent_maps, *row_maps),
        "adjoint_maps, rows": (adjoint_maps, *row_maps),
        "resolvent_forward, channels": (resolvent_forward, *channels),
        "resolvent_backward, channels": (resolvent_backward, *channels),
        "resolvent_maps, channels": (resolvent_maps, *channel_maps),
        "adjoint_maps, channels": (adjoint_maps, *channel_maps),
        "gate_forward": (gate_forward, *forward),
        "gate_backward": (gate_backward, *backward),
        "gate_maps": (gate_maps, *forward_maps),
        "gate_adjoint_maps": (gate_adjoint_maps, *backward_maps),
        "decayed_sum": (decayed_sum, ranks[0] | reverse, ranks[1]),
        "gated_forward": (gated_forward, *ranks),
        "gated_backward": (gated_backward, *ranks),
        "sum_maps": (sum_maps, rank_maps[0] | reverse, rank_maps[1]),
        "gated_maps": (gated_maps, *rank_maps),
        "gated_backward_maps": (gated_backward_maps, *rank_maps),
        "block_ends": (block_ends, blocks, rank_warps),
        "scan_blocks": (scan_blocks, blocks, rank_warps),
    }


if __name__ == "__main__":
    for capability in ((8, 6), (8, 9), (9, 0)):
        taken = {
            name: shared_bytes(kernel, capability, constants, warps)
            for name, (kernel, constants, warps) in cases().items()
            # What the first launch of two needs, the one launch needs too: the smallest limit will do
            if capability == (8, 6) or "maps" not in name
        }
        limit = SHARED_MEMORY_BYTES[capability]
        print(json.dumps({"capability": capability, "limit_bytes": limit, "shared_bytes": taken}))
