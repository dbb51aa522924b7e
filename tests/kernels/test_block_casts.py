"""The block's weights in the compute dtype, all in one launch."""

from __future__ import annotations

import torch
from torch import Tensor

from phase8_tune.kernels.block.casts import in_dtype
from phase8_tune.kernels.block.tensors import Parameters

SHAPES = {
    "in_weight": (70, 33),
    "out_weight": (7, 7),
    "gate_weight": (3, 2),
    "gate_logit_bias": (5,),
    "global_weight": (64, 64),
    "global_bias": (4097,),
}
"""Of numbers less than a program's, just its, and one more than two programs'."""


def parameters(device: torch.device) -> Parameters:
    generator = torch.Generator().manual_seed(0)

    def draw(name: str) -> Tensor:
        return torch.randn(SHAPES.get(name, (3,)), generator=generator).to(device)

    return Parameters(*map(draw, Parameters._fields))


def test_what_enters_a_product_is_rounded_and_nothing_else(device: torch.device) -> None:
    given = parameters(device)
    for name, cast in in_dtype(given, torch.float16)._asdict().items():
        own = getattr(given, name)
        assert torch.equal(cast, own.half() if name in SHAPES else own), name


def test_weights_that_are_of_the_type_stay_where_they_are(device: torch.device) -> None:
    given = parameters(device)
    assert in_dtype(given, torch.float32) is given
    half = given._replace(in_weight=given.in_weight.half(), out_weight=given.out_weight.half())
    cast = in_dtype(half, torch.float16)
    assert cast.in_weight is half.in_weight
    assert torch.equal(cast.global_bias, given.global_bias.half())
