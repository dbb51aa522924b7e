"""GPU profiles: what a prediction needs to know of a card, by name, each figure with its source."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError

from ...values.errors import UserInputError
from ...values.measurement import Border
from ...values.nearest import nearest_of
from ...values.sizes import format_size
from ...values.yaml_reading import explain, parse_mapping, read_text_file, shown
from ..trace.events import Workspaces
from .abilities import SHARED_MEMORY_BYTES
from .names import meant_by

DEFAULT_PROFILE = "rtx-3080-laptop"
"""The card of the published benchmark, for which is planned where there is no GPU."""

FILES = ("turing", "ampere", "ampere_laptop", "ada", "blackwell", "professional", "datacenter")
"""The files of gpus/, in the order in which cards are listed."""

MIB = 1 << 20
_HOPPER_WORKSPACE_BYTES = 32 * MIB
_WORKSPACE_BYTES = 2 * 4096 * 1024 + 8 * 16 * 1024  # cuBLAS's ":4096:2:16:8", 8.125 MiB

_THREADS_PER_MULTIPROCESSOR = {"7.5": 1024, "8.6": 1536, "8.7": 1536, "8.9": 1536, "12.0": 1536}
"""By compute capability, where it is not 2048."""

_CONTEXT_BYTES, _CONTEXT_BYTES_A_MULTIPROCESSOR = 176 * MIB, 3 * MIB
_LIBRARIES_BYTES = 128 * MIB
_GRAPH_BYTES = 74 * MIB
_LAUNCH_S = 8e-6


class Figure(Border):
    """A number, whether it was measured, and by whom it is said."""

    value: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    basis: Literal["measured", "specification", "estimate"]
    source: str


def _above_zero(figure: Figure) -> Figure:
    if not figure.value:
        raise ValueError("expected a value greater than 0, got 0")
    return figure


Rate = Annotated[Figure, AfterValidator(_above_zero)]
_Positive = Annotated[int, Field(gt=0)]


class GpuProfile(Border):
    """One card. Rates are bytes and FLOP a second; `matrix_32bit` is float32 without TF32."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    title: Annotated[str, Field(min_length=1)]
    compute_capability: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]$")]
    capacity_bytes: _Positive
    multiprocessors: _Positive
    shared_memory_per_block_bytes: _Positive
    bandwidth: Rate
    matrix_16bit: Rate
    matrix_32bit: Rate
    launch_s: Rate
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


def read_profile(fields: Mapping[str, Any], source: str) -> GpuProfile:
    """A profile from its keys, of which those that follow from others by a rule may be left out.

    Shared memory a block follows from the compute capability, the context from the multiprocessors; launch,
    libraries and graph are the same for all. source: names the text in messages.
    Raises: UserInputError, one line with the key, what was expected and what came.
    """
    capability = fields.get("compute_capability")
    known = SHARED_MEMORY_BYTES.get(capability) if isinstance(capability, str) else None
    if known is None and isinstance(capability, str) and "shared_memory_per_block_bytes" not in fields:
        raise UserInputError(
            f"{source}: compute_capability: expected one of {', '.join(SHARED_MEMORY_BYTES)}, or "
            f"shared_memory_per_block_bytes beside another, got {shown(capability)}"
        )
    count = fields.get("multiprocessors")
    followed = {
        "shared_memory_per_block_bytes": known or 1,
        "launch_s": _estimate(_LAUNCH_S, "11-12 µs on the hosts of an H100 and an H200, which are slower"),
        "context_bytes": _estimate(
            _CONTEXT_BYTES + _CONTEXT_BYTES_A_MULTIPROCESSOR * (count if isinstance(count, int) else 0),
            "176 MiB and 3 a multiprocessor, towards 518 to 621 MiB on 132 (H100, H200)",
        ),
        "libraries_bytes": _estimate(_LIBRARIES_BYTES, "120-140 MiB on an H200"),
        "graph_bytes": _estimate(_GRAPH_BYTES, "74 MiB on the H100"),
    }
    try:
        return GpuProfile.model_validate({**followed, **fields})
    except ValidationError as error:
        raise explain(error, source, GpuProfile) from None


def _estimate(value: float, source: str) -> dict[str, Any]:
    return {"value": value, "basis": "estimate", "source": source}


@functools.cache
def gpu_profiles() -> dict[str, GpuProfile]:
    """All named profiles, in the order of `FILES`."""
    profiles: dict[str, GpuProfile] = {}
    for file in FILES:
        text = files(__package__).joinpath("gpus", f"{file}.yaml").read_text(encoding="utf-8")
        for name, fields in yaml.safe_load(text).items():
            profiles[name] = read_profile({"name": name, **fields}, f"gpus/{file}.yaml: {name}")
    return profiles


def gpu_profile(name: str) -> GpuProfile:
    """The profile of that name, or of the one card that people call so, such as "RTX 3060 Ti".

    Raises: UserInputError for a name that none has, with the nearest, or that several have, with these.
    """
    profiles = gpu_profiles()
    if (exact := profiles.get(name.strip().lower())) is not None:
        return exact
    titled = [card.name for card in profiles.values() if card.title.casefold() == name.strip().casefold()]
    meant = titled or meant_by(name, {card.name: card.capacity_bytes for card in profiles.values()})
    if len(meant) == 1:
        return profiles[meant[0]]
    if meant:
        several = ", ".join(f"{one} ({format_size(profiles[one].capacity_bytes)})" for one in meant)
        raise UserInputError(f"--gpu: expected one card, got {shown(name)}, which may be any of {several}")
    near = nearest_of(name, profiles)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise UserInputError(
        f"--gpu: expected a card that `phase8-tune gpus` lists (--gpu-file describes another), "
        f"got {shown(name)}{hint}"
    )


def profile_by_title(title: str, total_bytes: int | None = None) -> GpuProfile | None:
    """The profile of a card by the name that its driver gives it, None where there is none.

    total_bytes: its memory, where that is known: several cards of one name differ in it.
    """
    found = [profile for profile in gpu_profiles().values() if profile.title == title]
    if total_bytes is None or not found:
        return found[0] if found else None
    return min(found, key=lambda profile: abs(profile.capacity_bytes - total_bytes))


def read_gpu_file(path: Path) -> GpuProfile:
    """The card that a YAML file describes, with the keys of a card of gpus/; its name follows from its title.

    Raises: UserInputError, one line that says what to correct.
    """
    fields = parse_mapping(read_text_file(path, "description of a GPU"), str(path))
    return read_profile({"name": name_after(str(fields.get("title"))), **fields}, str(path))


def name_after(title: str) -> str:
    """A name for a card that has none, from what its driver calls it; good as a part of a folder's name."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "card"


def chosen_profile(name: str | None, file: Path | None) -> GpuProfile | None:
    """The card that --gpu or --gpu-file say; None for neither.

    Raises: UserInputError for both, and as `gpu_profile` and `read_gpu_file`.
    """
    if name is not None and file is not None:
        raise UserInputError(f"--gpu-file: describes the card itself, got --gpu {name} too; leave out one")
    if file is not None:
        return read_gpu_file(file)
    return None if name is None else gpu_profile(name)
