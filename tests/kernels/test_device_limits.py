from __future__ import annotations

import pytest
import torch
import triton

from phase8_tune.kernels import device_limits
from phase8_tune.kernels.device_limits import (
    SHARED_MEMORY_BYTES,
    interpreting,
    multiprocessor_count,
    require_triton_device,
    shared_memory_limit,
)
from phase8_tune.kernels.versions import UnsupportedVersionError


def test_limit_is_one_of_a_known_gpu(device: torch.device) -> None:
    limit = shared_memory_limit(device)
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        assert limit == SHARED_MEMORY_BYTES.get(capability, limit)
        assert limit >= 48 * 1024
    else:
        assert limit == 101_376
    assert multiprocessor_count(device) > 1


def test_cpu_tensors_need_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    device_limits._limits.cache_clear()
    with pytest.raises(UnsupportedVersionError, match=r"mix_norm: expected tensors on a CUDA GPU, got cpu"):
        require_triton_device(torch.zeros(1), "mix_norm")
    with pytest.raises(UnsupportedVersionError, match=r"kernel version 'reference'"):
        shared_memory_limit(torch.device("cpu"))


def test_interpreter_takes_cpu_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.knobs.runtime, "interpret", True)
    assert interpreting()
    require_triton_device(torch.zeros(1))
