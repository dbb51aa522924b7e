"""GPU profiles: every figure has a source, and follows from it; workspaces follow the architecture."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

import phase8_tune
from phase8_tune.kernels import device_limits
from phase8_tune.tuner.predict.rate.abilities import SHARED_MEMORY_BYTES, lacking, obstacles
from phase8_tune.tuner.predict.rate.profiles import (
    DEFAULT_PROFILE,
    gpu_profile,
    gpu_profiles,
    profile_by_title,
)
from phase8_tune.tuner.records.journal import read_records
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.errors import UserInputError

H200_SEARCH = (
    Path(phase8_tune.__file__).parent / "studies/results/2026-11-28-h200-default-study/records.jsonl"
)

every_card = pytest.mark.parametrize("profile", gpu_profiles().values(), ids=lambda profile: profile.name)
VECTOR_FLOP = {"7.5": 128, "8.6": 256, "8.9": 256, "12.0": 256}
"""Of a multiprocessor in a clock, in float32: two of each of its 64 or 128 cores."""
MATRIX_FLOP = {"half rate with": 512, "full rate with": 1024, "no matrix units": 128}
"""The same of products of two bytes an element, by what the source says."""


@every_card
def test_a_profile_is_plausible(profile):
    assert profile.shared_memory_per_block_bytes == SHARED_MEMORY_BYTES[profile.compute_capability]
    outside = (profile.context_bytes, profile.libraries_bytes, profile.graph_bytes)
    assert sum(figure.value for figure in outside) < profile.capacity_bytes / 8
    has_matrix_units = "no matrix units" not in profile.matrix_16bit.source
    assert profile.matrix_16bit.value > profile.matrix_32bit.value or not has_matrix_units
    assert has_matrix_units == ("gtx" not in profile.name)
    for figure in (profile.bandwidth, profile.matrix_16bit, profile.matrix_32bit, profile.launch_s):
        assert figure.value > 0
        assert figure.source


@every_card
def test_figures_follow_from_what_their_source_says(profile):
    """Bandwidth from the bus, rates from multiprocessors, clock and architecture."""
    if bus := re.search(r"([0-9]+) bit at ([0-9.]+) Gbit/s", profile.bandwidth.source):
        assert math.isclose(profile.bandwidth.value, int(bus[1]) * float(bus[2]) / 8 * 1e9, rel_tol=1e-3)
    else:
        assert re.search("sheet|studies/results", profile.bandwidth.source)
    for figure, in_a_clock in (
        (profile.matrix_32bit, VECTOR_FLOP.get(profile.compute_capability)),
        (
            profile.matrix_16bit,
            next((n for said, n in MATRIX_FLOP.items() if said in profile.matrix_16bit.source), None),
        ),
    ):
        if clock := re.search(r"([0-9]+) MHz boost", figure.source):
            assert in_a_clock is not None
            expected = profile.multiprocessors * in_a_clock * int(clock[1]) * 1e6
            assert math.isclose(figure.value, expected, rel_tol=0.02)
        else:
            assert re.search("sheet|white ?paper|studies/results", figure.source)


@every_card
def test_a_laptop_says_its_power_class(profile):
    says_watts = re.search(r" at [0-9]+ W$", profile.matrix_16bit.source) is not None
    assert says_watts == ("laptop" in profile.name)


@pytest.mark.skipif(not H200_SEARCH.exists(), reason="phase8_tune is installed without its sources")
def test_what_an_h200_takes_beside_torch_is_what_its_workers_took():
    profile = gpu_profile("h200")
    ledgers = [
        {line.name: line.size_bytes for line in record.measurement.ledger}
        for record in read_records(H200_SEARCH)
        if record.measurement.ledger
    ]
    assert len(ledgers) > 80
    assert {ledger["context"] for ledger in ledgers} == {int(profile.context_bytes.value)}
    beside = [ledger["other"] for ledger in ledgers]
    assert min(beside) == profile.libraries_bytes.value
    assert max(beside) == profile.libraries_bytes.value + profile.graph_bytes.value


def test_the_cards_that_are_known():
    names = gpu_profiles().keys()
    assert len(names) >= 45
    desktop = "3050-8gb 3060 3060-ti 3070 3070-ti 3080-10gb 3080-ti 3090 4060 4070 4080 4090"
    desktop += " 5050 5060 5060-ti-16gb 5070 5070-ti 5080 5090"
    laptop = (
        "3050-ti 3060 3070 3070-ti 3080 3080-ti 4050 4060 4070 4080 4090 5050 5060 5070 5070-ti 5080 5090"
    )
    others = "rtx-a2000 rtx-a4000 a10 l4 l40s a100 a100-80gb h100 h100-pcie h200 b200 t4 rtx-2070 gtx-1660"
    assert {f"rtx-{model}" for model in desktop.split()} <= names
    assert {f"rtx-{model}-laptop" for model in laptop.split()} <= names
    assert set(others.split()) <= names


def test_shared_memory_is_that_of_the_kernels():
    for (major, minor), limit_bytes in device_limits.SHARED_MEMORY_BYTES.items():
        assert SHARED_MEMORY_BYTES[f"{major}.{minor}"] == limit_bytes
    kibibytes = {capability: limit // 1024 for capability, limit in SHARED_MEMORY_BYTES.items()}
    assert kibibytes == {"7.5": 64, "8.0": 163, "8.6": 99, "8.9": 99, "9.0": 227, "10.0": 227, "12.0": 99}


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("gtx-1660", ("bf16", "fp8", "Triton")),
        ("rtx-2080-ti", ("bf16", "fp8", "Triton")),
        ("t4", ("bf16", "fp8", "Triton")),
        ("a100", ("fp8",)),
        ("rtx-3060", ("fp8",)),
        ("rtx-4060-laptop", ()),
        ("h100", ()),
        ("b200", ()),
        ("rtx-5060", ()),
    ],
)
def test_what_a_card_cannot_do(name, lacks):
    assert lacking(gpu_profile(name).compute_capability) == lacks


@pytest.mark.parametrize(
    ("version", "precision", "expected"),
    [
        ("reference", "fp16", ()),
        ("reference", "none", ()),
        ("reference", "bf16", ("bf16",)),
        ("v1", "none", ("kernels v1",)),
        ("fast", "bf16", ("kernels fast", "bf16")),
    ],
)
def test_what_of_a_candidate_does_not_run_below_8_0(version, precision, expected):
    candidate = Candidate(
        model="nano", n_seq=32, batch_size=1, kernel_version=version,
        gradient_checkpointing=False, mixed_precision=precision,
    )  # fmt: skip
    assert obstacles("7.5", candidate) == expected
    assert obstacles("8.0", candidate) == ()


def test_named_profiles():
    assert gpu_profile(DEFAULT_PROFILE).capacity_bytes == 8 << 30
    assert profile_by_title("NVIDIA H200") == gpu_profile("h200")
    assert profile_by_title("another card") is None
    with pytest.raises(UserInputError, match="phase8-tune gpus"):
        gpu_profile("voodoo")


@pytest.mark.parametrize(
    ("title", "total_gib", "name"),
    [
        ("NVIDIA GeForce RTX 3060", 11.76, "rtx-3060"),  # a driver keeps some of it to itself
        ("NVIDIA GeForce RTX 3060", 7.9, "rtx-3060-8gb"),
        ("NVIDIA GeForce RTX 4060 Ti", 15.9, "rtx-4060-ti-16gb"),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", 15.7, "rtx-3080-laptop-16gb"),
    ],
)
def test_of_cards_of_one_name_the_memory_decides(title, total_gib, name):
    found = profile_by_title(title, int(total_gib * 2**30))
    assert found is not None
    assert found.name == name


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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("h200", 2048),
        ("b200", 2048),
        ("a100", 2048),
        ("rtx-3080-laptop", 1536),
        ("rtx-5060", 1536),
        ("t4", 1024),
    ],
)
def test_threads_a_multiprocessor_holds(name, expected):
    assert gpu_profile(name).threads_per_multiprocessor == expected
