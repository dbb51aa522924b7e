"""What CUDA would cast, and what it would choose."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from phase8_tune.tuner.predict.trace import autocast
from phase8_tune.tuner.predict.trace.autocast import autocast_as_on_cuda
from phase8_tune.tuner.predict.trace.cuda_choices import attention_backend

LISTS = (
    autocast.LOWER,
    autocast.FLOAT32,
    autocast.FLOAT32_RESULT,
    autocast.PROMOTED,
    autocast.OWN_WAY,
    autocast._REFUSED,
)


def test_every_operation_that_this_torch_casts_is_in_one_list() -> None:
    for name in autocast.operations():
        short = name.removeprefix("aten::").partition(".")[0]
        assert sum(short in names for names in LISTS) == 1, name


def half(*shape: int) -> Tensor:
    return torch.ones(shape, device="meta", dtype=torch.bfloat16)


def single(*shape: int) -> Tensor:
    return torch.ones(shape, device="meta")


@pytest.mark.parametrize(
    ("call", "dtype"),
    [
        (lambda: single(2, 4) @ single(4, 2), torch.bfloat16),
        (lambda: F.linear(single(2, 4), single(2, 4)), torch.bfloat16),
        (lambda: F.conv2d(single(1, 2, 4, 4), single(2, 2, 3, 3)), torch.bfloat16),
        (lambda: torch.einsum("ij,jk->ik", single(2, 4), single(4, 2)), torch.bfloat16),
        (lambda: F.softmax(half(2, 4), -1), torch.float32),
        (lambda: F.layer_norm(half(2, 4), (4,)), torch.float32),
        (
            lambda: F.cross_entropy(half(2, 4), torch.zeros(2, dtype=torch.int64, device="meta")),
            torch.float32,
        ),
        (lambda: half(2, 4).sum(), torch.float32),
        (lambda: half(2, 4).pow(2), torch.float32),
        (lambda: half(2, 4).norm(), torch.float32),
        (lambda: F.gelu(half(2, 4)), torch.bfloat16),
        (lambda: half(2, 4) + single(2, 4), torch.float32),
        (lambda: torch.addcmul(half(4), half(4), single(4)), torch.float32),
        (lambda: single(2, 4).double() @ single(4, 2).double(), torch.float64),
        (lambda: half(2, 4).sum(dtype=torch.bfloat16), torch.bfloat16),
    ],
)
def test_results_have_the_dtype_they_have_on_cuda(call: object, dtype: torch.dtype) -> None:
    assert callable(call)
    with autocast_as_on_cuda(), torch.autocast("cuda", dtype=torch.bfloat16):
        assert call().dtype == dtype


def test_autocast_off_inside_casts_nothing() -> None:
    with autocast_as_on_cuda():
        assert (single(2, 4) @ single(4, 2)).dtype == torch.float32
        with torch.autocast("cuda", dtype=torch.float16), torch.autocast("cuda", enabled=False):
            assert (single(2, 4) @ single(4, 2)).dtype == torch.float32


AMPERE, ADA, HOPPER = (8, 0), (8, 9), (9, 0)


@pytest.mark.parametrize(
    ("capability", "dtype", "width", "mask", "chosen"),
    [
        (ADA, torch.float16, 64, False, "flash"),
        (ADA, torch.bfloat16, 60, False, "flash"),
        (ADA, torch.bfloat16, 64, True, "efficient"),
        (ADA, torch.float32, 64, False, "efficient"),
        (ADA, torch.float32, 63, False, "math"),
        (ADA, torch.bfloat16, 320, False, "efficient"),
        (AMPERE, torch.bfloat16, 256, False, "flash"),
        (HOPPER, torch.bfloat16, 64, False, "cudnn"),
        (HOPPER, torch.bfloat16, 64, True, "cudnn"),
        (HOPPER, torch.float32, 64, False, "efficient"),
        (HOPPER, torch.float16, 256, False, "flash"),
        (HOPPER, torch.float64, 64, False, "math"),
    ],
)
def test_attention(
    capability: tuple[int, int], dtype: torch.dtype, width: int, mask: bool, chosen: str
) -> None:
    q = torch.ones(2, 4, 16, width, dtype=dtype, device="meta")
    bias = torch.ones(16, 16, device="meta") if mask else None
    assert attention_backend(q, q, q, bias, capability) == chosen


def test_only_packed_rows_are_fused() -> None:
    q = torch.ones(2, 4, 16, 64, dtype=torch.bfloat16, device="meta")
    table = torch.ones(16, 16, 4, dtype=torch.bfloat16, device="meta")
    permuted = table.permute(2, 0, 1)[None]  # T5's learnt bias: on an H200 its scores are kept whole
    assert attention_backend(q, q, q, permuted, HOPPER) == "math"
    assert attention_backend(q, q, q, permuted.contiguous(), HOPPER) == "cudnn"
    assert attention_backend(q.transpose(2, 3), q, q, None, ADA) == "math"


def test_cudnn_drops_in_sixteenths() -> None:
    q = half(2, 4, 16, 64)
    assert attention_backend(q, q, q, None, HOPPER, dropout=0.1) == "flash"
    assert attention_backend(q, q, q, None, HOPPER, dropout=0.125) == "cudnn"
