"""Workspaces of cuDNN's convolutions, as an H200 took them (studies/results/2026-11-29-h200-foreign)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phase8_tune.tuner.predict.trace.convolution_scratch import convolution, convolution_backward

BF16 = torch.bfloat16
MORE_BYTES = 160
"""What a workspace has beside the copies differs by so much; the allocator rounds to 512."""


def arguments(layer: nn.Conv2d | nn.ConvTranspose2d, values: torch.Tensor) -> list[object]:
    is_transposed = isinstance(layer, nn.ConvTranspose2d)
    return [
        values, layer.weight, None, layer.stride, layer.padding, layer.dilation, is_transposed,
        layer.output_padding, layer.groups,
    ]  # fmt: skip


def backward_arguments(layer: nn.Conv2d, values: torch.Tensor) -> list[object]:
    _, weight, _, *how = arguments(layer, values)
    return [layer(values), values, weight, None, *how, [True, True, False]]


def conv(given: int, made: int, window: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    padding = window // 2
    with torch.device("meta"):
        return nn.Conv2d(given, made, window, stride, padding, groups=groups, bias=False, dtype=BF16)


def images(*shape: int, dtype: torch.dtype = BF16) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


@pytest.mark.parametrize(
    ("layer", "values", "taken"),
    [
        (conv(3, 64, 7, 2), images(64, 3, 160, 160), 78_693_392),
        (conv(64, 64, 3), images(64, 64, 40, 40), 26_288_275),
        (conv(128, 128, 3, 2), images(64, 128, 40, 40), 33_062_928),
        (conv(256, 512, 1, 2), images(64, 256, 40, 40), 78_643_347),
        (conv(64, 64, 3), images(16, 64, 64, 64), 16_851_091),
    ],
)
def test_a_forward_pass_takes_copies_of_its_operands_with_channels_last(
    layer: nn.Conv2d, values: torch.Tensor, taken: int
) -> None:
    [found] = convolution(arguments(layer, values), layer(values))
    assert abs(found - taken) < MORE_BYTES


def test_a_transposed_one_takes_as_much() -> None:
    with torch.device("meta"):
        layer = nn.ConvTranspose2d(256, 128, 2, 2, dtype=BF16)
    values = images(16, 256, 16, 16)
    [found] = convolution(arguments(layer, values), layer(values))
    assert abs(found - 6_553_747) < MORE_BYTES


@pytest.mark.parametrize(
    ("layer", "values", "taken"),
    [
        (conv(512, 2048, 1), images(64, 512, 5, 5), 8_192_016),
        (conv(512, 512, 3), images(64, 512, 5, 5), 7_995_408),
        (conv(512, 512, 3, 2), images(64, 512, 10, 10), 12_910_739),
        (conv(256, 1024, 1), images(64, 256, 10, 10), 16_384_147),
    ],
)
def test_each_gradient_takes_as_much_too(layer: nn.Conv2d, values: torch.Tensor, taken: int) -> None:
    [found] = convolution_backward(backward_arguments(layer, values), None)
    assert abs(found - taken) < MORE_BYTES


def test_products_of_matrices_and_channels_last_and_channels_by_themselves_take_nothing() -> None:
    values = images(64, 64, 40, 40)
    last = values.to(memory_format=torch.channels_last)
    for layer, given in (
        (conv(64, 256, 1), values),
        (conv(64, 64, 3), last),
        (conv(64, 64, 3, groups=64), values),
    ):
        assert convolution(arguments(layer, given), layer(given)) == []
    assert convolution_backward(backward_arguments(conv(64, 64, 3), last), None) == []
