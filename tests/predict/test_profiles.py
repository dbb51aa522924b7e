"""GPU profiles: every figure has a source; workspaces follow the architecture and the environment."""

from __future__ import annotations

import pytest

from phase8_tune.kernels.device_limits import SHARED_MEMORY_BYTES
from phase8_tune.tuner.predict.rate.profiles import (
    DEFAULT_PROFILE,
    gpu_profile,
    gpu_profiles,
    profile_by_title,
)
from phase8_tune.tuner.values.errors import UserInputError


@pytest.mark.parametrize("profile", gpu_profiles().values(), ids=lambda profile: profile.name)
def test_a_profile_is_plausible(profile):
    major, minor = map(int, profile.compute_capability.split("."))
    assert profile.shared_memory_per_block_bytes == SHARED_MEMORY_BYTES[major, minor]
    outside = (profile.context_bytes, profile.libraries_bytes, profile.graph_bytes)
    assert sum(figure.value for figure in outside) < profile.capacity_bytes / 8
    assert profile.matrix_16bit.value > profile.matrix_32bit.value
    for figure in (profile.bandwidth, profile.matrix_16bit, profile.matrix_32bit, profile.launch_s):
        assert figure.value > 0
        assert figure.source


def test_named_profiles():
    assert gpu_profile(DEFAULT_PROFILE).capacity_bytes == 8 << 30
    assert profile_by_title("NVIDIA H200") == gpu_profile("h200")
    assert profile_by_title("another card") is None
    with pytest.raises(UserInputError, match="rtx-4090"):
        gpu_profile("voodoo")


@pytest.mark.parametrize(
    ("name", "environment", "expected_kib"),
    [
        ("h200", {}, 32 * 1024),
        ("rtx-3080-laptop", {}, 8 * 1024 + 128),
        ("h200", {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}, 32 * 1024),
        ("h200", {"CUBLAS_WORKSPACE_CONFIG": ":16:8"}, 128),
        ("rtx-4090", {"CUBLAS_WORKSPACE_CONFIG": ":4096:2:16:8"}, 8 * 1024 + 128),
    ],
)
def test_workspace_of_cublas(name, environment, expected_kib):
    assert gpu_profile(name).blas_workspace_bytes(environment) == expected_kib * 1024


@pytest.mark.parametrize(
    ("environment", "expected_kib"),
    [
        ({}, 1024),
        ({"CUBLASLT_WORKSPACE_SIZE": "4096"}, 4096),
        ({"CUBLASLT_WORKSPACE_SIZE": "0"}, 0),
        ({"TORCH_CUBLASLT_UNIFIED_WORKSPACE": "1"}, 0),
    ],
)
def test_workspace_of_cublaslt(environment, expected_kib):
    profile = gpu_profile("h200")
    assert profile.blaslt_workspace_bytes(environment) == expected_kib * 1024
    assert profile.workspaces(environment) == (32 << 20, expected_kib * 1024)


@pytest.mark.parametrize(("name", "expected"), [("h200", 2048), ("a100", 2048), ("rtx-3080-laptop", 1536)])
def test_threads_a_multiprocessor_holds(name, expected):
    assert gpu_profile(name).threads_per_multiprocessor == expected
