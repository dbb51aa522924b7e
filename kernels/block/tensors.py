"""The tensors of the fused block by name: its parameters, and what a forward leaves for its backward."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..segments import require_float32
from ..versions import UnsupportedVersionError


class Parameters(NamedTuple):
    """What `composed.block` takes after x, up to its settings; the order is that of the operation."""

    norm_weight: Tensor
    norm_bias: Tensor
    potential_weight: Tensor
    potential_bias: Tensor
    energy_re: Tensor
    energy_im: Tensor
    in_weight: Tensor
    curvature: Tensor
    beta: Tensor
    sink: Tensor
    out_weight: Tensor
    gate_bias: Tensor
    gate_weight: Tensor
    gate_logit_bias: Tensor
    decay: Tensor
    theta: Tensor
    global_weight: Tensor
    global_bias: Tensor
    conv_weight: Tensor
    mix_weight: Tensor
    mix_bias: Tensor
    resolvent_scale: Tensor
    resolvent_weight: Tensor
    resolvent_bias: Tensor


PRODUCTS = ("in_weight", "out_weight")
"""Parameters that are only multiplied by, in the compute dtype: they may be bfloat16 themselves."""


def require_types(parameters: Parameters) -> None:
    """Refuse parameters that are not float32, or for products bfloat16.

    Raises: UnsupportedVersionError naming the parameter, its dtype and the version that takes it.
    """
    given = parameters._asdict()
    for name in PRODUCTS:
        if given[name].dtype not in (torch.float32, torch.bfloat16):
            raise UnsupportedVersionError(
                f"block fast: expected {name} in float32 or bfloat16, got {given[name].dtype}; "
                "version 'reference' also takes float64"
            )
    require_float32("block", "fast", **{name: p for name, p in given.items() if name not in PRODUCTS})


class Kept(NamedTuple):
    """What every forward leaves for its backward, beside x and the parameters."""

    g_re: Tensor
    g_im: Tensor
    product: Tensor
    ranked: Tensor
    mix_mean: Tensor
    mix_rstd: Tensor


class Derived(NamedTuple):
    """What follows from the product: kept too, or computed again in the backward."""

    heads: Tensor
    lse: Tensor
    factors: Tensor
    local: Tensor
    gate_logits: Tensor
