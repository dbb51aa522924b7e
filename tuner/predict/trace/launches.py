"""What a Triton launch that was left out would have done: classes of cost, their arithmetic and traffic.

The traffic is that of the launch's tensors, each once, but for those of which a kernel touches little, and
those that it changes in place, which count twice. Those whose time is arithmetic say how much they have:
matrix products in FLOP, others in operations of the vector units, with transcendental functions and address
arithmetic counted in. Those numbers are measured, but for the optimizer's, which are counted: the time of a
kernel on one H100 (tokens of 512, heads of 64) at VECTOR_SHARE of its float32 rate, over its pairs, logits or
numbers (studies/results, 2026-11-26-h100-kernels). Every kernel is in one of the tables below: to count a new
one as no arithmetic must be somebody's decision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from .cost_classes import launch_class
from .operations import tensor_bytes, tensors_of

Arguments = Mapping[str, Any]
Amount = Callable[[Arguments], float]


class UnknownKernelError(LookupError):
    """A kernel was launched of which nobody said what arithmetic it has."""


def launch_costs(
    kernel: Any, args: Sequence[Any], kwargs: Mapping[str, Any], operation: str | None
) -> list[tuple[str, float, float]]:
    """(class, arithmetic, bytes) of one launch with these arguments; `operation`: the one that launches it.

    A class is "operation:folder.module.kernel"; an epilogue of vector operations is a class of its own, whose
    time comes on top.
    Raises: UnknownKernelError for a kernel that is in no table.
    """
    name = kernel_name(kernel)
    if name not in _MATRIX and name not in _VECTOR and name not in _TRAFFIC_ALONE:
        raise UnknownKernelError(
            f"{name}: expected a kernel that is named in {__name__}, got one that is not; name it there with "
            "its arithmetic, or as one that has none of note"
        )
    given = dict(zip(kernel.arg_names, args, strict=False)) | dict(kwargs)
    partly = _PARTLY_READ.get(name, ())
    # A descriptor stands for the tensor it describes
    whole = [getattr(value, "base", value) for key, value in given.items() if key not in partly]
    moved = tensor_bytes(tensors_of(whole + [given[key] for key in _CHANGED.get(name, ())]))
    label = launch_class(operation, name)
    amount, epilogue = _MATRIX.get(name) or _VECTOR.get(name), _EPILOGUES.get(name)
    costs = [(label, 0.0 if amount is None else amount(given), float(moved))]
    if epilogue is not None:
        costs.append((f"{label} epilogue", epilogue(given), 0.0))
    return costs


def kernel_name(kernel: Any) -> str:
    """folder.module.kernel of a Triton function."""
    function = kernel.fn
    return ".".join([*function.__module__.split(".")[-2:], function.__name__])


def _times(factor: float, given: Arguments, *names: str) -> float:
    return math.prod((float(given[name]) for name in names), start=factor)


def _table_product(given: Arguments) -> float:
    """FLOP of h [N, D] times a table of TILES · BLOCK_V columns."""
    return _times(2.0, given, "N", "TILES", "BLOCK_V", "D")


def _factor_product(given: Arguments) -> float:
    """FLOP of the products along d1 of N tokens with ROWS rows of the first core."""
    return _times(2.0, given, "N", "ROWS", "D1", "D2")


def _logits(operations: float) -> Amount:
    return lambda given: _times(operations, given, "N", "TILES", "BLOCK_V")


def _pairs(operations: float) -> Amount:
    """Operations of every row against its window, in whole blocks."""

    def amount(given: Arguments) -> float:
        lse: Tensor = given["lse_ptr"]
        seen = min(given["WINDOW"], given["N"]) + given["BLOCK"]
        return float(operations * lse.numel() * seen)

    return amount


def _gathered(given: Arguments) -> float:
    """Every number of a token's row is a sum of RANK products, each with its two loads."""
    tokens: Tensor = given["tokens"]
    return _times(10.0 * tokens.numel(), given, "D", "RANK")


def _updated(given: Arguments) -> float:
    """Of every number of a weight: the step, and making and reading both codes, or rounding."""
    return _times(170.0 if given["IS_8BIT"] else 40.0, given, "count")


_MATRIX: dict[str, Amount] = {
    "htt_cross_entropy.exponentials.exponentials_kernel": _table_product,
    "htt_cross_entropy.exponentials.persistent_exponentials_kernel": _table_product,
    "htt_cross_entropy.factors.left_product_kernel": _factor_product,
    "htt_cross_entropy.factors.hidden_gradient_kernel": _factor_product,
    "htt_cross_entropy.factors.left_gradient_kernel": _factor_product,
}
_VECTOR: dict[str, Amount] = {
    "window_attention.fast.forward_kernel": _pairs(103.0),
    "window_attention.banded.query_kernel": _pairs(128.0),
    "window_attention.banded.key_kernel": _pairs(125.0),
    "window_attention.v1.forward_kernel": _pairs(84.0),
    "window_attention.v1.query_kernel": _pairs(520.0),
    "window_attention.v1.key_kernel": _pairs(345.0),
    "htt_embedding.gather.gather_kernel": _gathered,
    "adamw.tiles.update_kernel": _updated,
}
_TRAFFIC_ALONE = frozenset(
    {
        "ar_ssm_scan.decayed.decayed_sum",
        "ar_ssm_scan.decayed.gated_backward",
        "ar_ssm_scan.decayed.gated_forward",
        "ar_ssm_scan.maps.gated_backward_maps",
        "ar_ssm_scan.maps.gated_maps",
        "ar_ssm_scan.maps.sum_maps",
        "bk_gate.gated.gate_backward",
        "bk_gate.gated.gate_forward",
        "bk_gate.maps.gate_adjoint_maps",
        "bk_gate.maps.gate_maps",
        "bk_scan.maps.adjoint_maps",
        "bk_scan.maps.resolvent_maps",
        "bk_scan.resolvent.resolvent_backward",
        "bk_scan.resolvent.resolvent_forward",
        "block.casts.cast_kernel",
        "block_scalars.fast.backward_kernel",
        "block_scalars.fast.forward_kernel",
        "block.gate.gradient_kernel",
        "block.gate.hidden_kernel",
        "htt_cross_entropy.exponentials.finish_rows_kernel",
        "htt_cross_entropy.exponentials.losses_kernel",
        "htt_cross_entropy.exponentials.target_logit_kernel",
        "htt_cross_entropy.rows.scale_kernel",
        "htt_cross_entropy.rows.softmax_gradient_kernel",
        "htt_cross_entropy.rows.sum_parts_kernel",
        "htt_cross_entropy.table.contract_kernel",
        "htt_cross_entropy.table.expand_kernel",
        "htt_embedding.gather.core_gradient_kernel",
        "htt_embedding.gather.position_gradient_kernel",
        "htt_embedding.gather.sum_parts_kernel",
        "layer_norm.tiles.backward_kernel",
        "layer_norm.tiles.forward_kernel",
        "mix_norm.parameters.parameters_kernel",
        "mix_norm.tiles.backward_kernel",
        "mix_norm.tiles.conv_backward_kernel",
        "mix_norm.tiles.forward_kernel",
        "rank_scan.recurrence.block_ends",
        "rank_scan.recurrence.scan_blocks",
        "rank_weight.tiles.backward_kernel",
        "rank_weight.tiles.forward_kernel",
        "spectral_norm.fast.vectors_kernel",
        "window_attention.prologue.row_kernel",
    }
)
"""Those whose arithmetic is done while their numbers come: their time is their traffic."""
_PARTLY_READ: dict[str, tuple[str, ...]] = {
    # One number of a row of logits, one row of the table a token
    "htt_cross_entropy.exponentials.finish_rows_kernel": ("table", "exponentials"),
    "htt_cross_entropy.exponentials.target_logit_kernel": ("table",),
}
_CHANGED: dict[str, tuple[str, ...]] = {
    "adamw.tiles.update_kernel": ("weight", "first", "second", "first_peaks", "second_peaks"),
}
"""What is read and written again."""
_EPILOGUES: dict[str, Amount] = {
    "htt_cross_entropy.exponentials.exponentials_kernel": _logits(11.0),
    "htt_cross_entropy.exponentials.persistent_exponentials_kernel": _logits(11.0),
}
