"""GPU profiles: what a prediction needs to know of a card, by name, each figure with its source."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Literal

import yaml
from pydantic import ValidationError

from ...values.errors import UserInputError
from ...values.measurement import Border
from ...values.nearest import one_of
from ...values.yaml_reading import explain
from ..trace.events import Workspaces

DEFAULT_PROFILE = "rtx-3080-laptop"
"""The card of the published benchmark, for which is planned where there is no GPU."""

MIB = 1 << 20
_HOPPER_WORKSPACE_BYTES = 32 * MIB
_WORKSPACE_BYTES = 2 * 4096 * 1024 + 8 * 16 * 1024  # cuBLAS's ":4096:2:16:8", 8.125 MiB

_THREADS_PER_MULTIPROCESSOR = {"7.5": 1024, "8.6": 1536, "8.7": 1536, "8.9": 1536, "12.0": 1536}
"""By compute capability, where it is not 2048."""


class Figure(Border):
    """A number, whether it was measured, and by whom it is said."""

    value: float
    basis: Literal["measured", "specification", "estimate"]
    source: str


class GpuProfile(Border):
    """One card. Rates are bytes and FLOP a second; `matrix_32bit` is float32 without TF32."""

    name: str
    title: str
    compute_capability: str
    capacity_bytes: int
    multiprocessors: int
    shared_memory_per_block_bytes: int
    bandwidth: Figure
    matrix_16bit: Figure
    matrix_32bit: Figure
    launch_s: Figure
    context_bytes: Figure
    libraries_bytes: Figure
    graph_bytes: Figure
    workspace_bytes: int | None = None  # of cuBLAS, a thread; None: by the architecture
    lt_workspace_bytes: int | None = None  # of cuBLASLt, a thread; None: as of 2.11

    @property
    def outside_bytes(self) -> int:
        """What a process takes of the card beside torch's allocator, without a captured graph."""
        return int(self.context_bytes.value + self.libraries_bytes.value)

    @property
    def threads_per_multiprocessor(self) -> int:
        """How many it holds at once. Source: CUDA C++ Programming Guide, Technical Specifications."""
        return _THREADS_PER_MULTIPROCESSOR.get(self.compute_capability, 2048)

    def workspaces(self, environment: Mapping[str, str] | None = None) -> Workspaces:
        """What torch gives the matrix library's two interfaces on this card, each for each thread."""
        return Workspaces(self.blas_workspace_bytes(environment), self.blaslt_workspace_bytes(environment))

    def blaslt_workspace_bytes(self, environment: Mapping[str, str] | None = None) -> int:
        """Bytes of the workspace that torch gives cuBLASLt on this card, one for each thread.

        CUBLASLT_WORKSPACE_SIZE (KiB) decides where it is set; 0 where it shares cuBLAS's
        (TORCH_CUBLASLT_UNIFIED_WORKSPACE). 1 MiB otherwise, as an H100 showed with 2.11.
        Source: pytorch, aten/src/ATen/cuda/CublasHandlePool.cpp, parseCUDABlasLtWorkspaceSize.
        """
        settings = os.environ if environment is None else environment
        if settings.get("TORCH_CUBLASLT_UNIFIED_WORKSPACE") == "1":
            return 0
        text = settings.get("CUBLASLT_WORKSPACE_SIZE", "")
        if text.isdecimal():
            return int(text) * 1024
        return MIB if self.lt_workspace_bytes is None else self.lt_workspace_bytes

    def blas_workspace_bytes(self, environment: Mapping[str, str] | None = None) -> int:
        """Bytes of the workspace that torch gives a cuBLAS handle on this card, one for each thread.

        CUBLAS_WORKSPACE_CONFIG (":KiB:count…") decides where it is set.
        Source: pytorch, aten/src/ATen/cuda/CublasHandlePool.cpp, parseChosenWorkspaceSize.
        """
        text = (os.environ if environment is None else environment).get("CUBLAS_WORKSPACE_CONFIG", "")
        pools = re.findall(r":([0-9]+):([0-9]+)", text)
        if pools:
            return sum(int(size) * 1024 * int(count) for size, count in pools)
        if self.workspace_bytes is not None:
            return self.workspace_bytes
        major = int(self.compute_capability.partition(".")[0])
        return _HOPPER_WORKSPACE_BYTES if major in (9, 10) else _WORKSPACE_BYTES


@functools.cache
def gpu_profiles() -> dict[str, GpuProfile]:
    """All named profiles, in the order of gpus.yaml."""
    text = files(__package__).joinpath("gpus.yaml").read_text(encoding="utf-8")
    profiles: dict[str, GpuProfile] = {}
    for name, fields in yaml.safe_load(text).items():
        try:
            profiles[name] = GpuProfile.model_validate({"name": name, **fields})
        except ValidationError as error:
            raise explain(error, f"gpus.yaml: {name}", GpuProfile) from None
    return profiles


def gpu_profile(name: str) -> GpuProfile:
    """The profile of that name.

    Raises: UserInputError for a name that is not in gpus.yaml.
    """
    profiles = gpu_profiles()
    if name not in profiles:
        raise UserInputError(f"--gpu: {one_of(profiles, name)}")
    return profiles[name]


def profile_by_title(title: str) -> GpuProfile | None:
    """The profile of a card by the name that its driver gives it, None where there is none."""
    return next((profile for profile in gpu_profiles().values() if profile.title == title), None)
