"""What a node of a cluster tells of itself, and which nodes serve one study."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ... import __version__
from ..machine.environment import installed_version
from ..machine.gpus import find_gpu
from ..machine.nvml import open_nvml
from ..machine.sources import sources_digest
from ..measuring.reserve import OtherUse, see_other_use
from ..measuring.worker_measurer import WORKER_COMMAND
from ..values.errors import DeviceError, UserInputError
from ..values.nearest import one_of

_MEASURED_WITH = ("kernels", "phase8", "tuner/builtin", "tuner/measuring", "tuner/worker", "tuner/workloads")
"""Sources that a measurement follows from: they are the driver's on every node."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Software:
    """Versions that have to be the same on every node and where the command runs."""

    phase8_tune: str
    sources: str
    torch: str | None

    @classmethod
    def here(cls) -> Software:
        return cls(
            phase8_tune=__version__,
            sources=sources_digest(_MEASURED_WITH),
            torch=installed_version("torch"),
        )

    def difference(self, driver: Software) -> str | None:
        """What differs of a node's from the driver's, in words; None where nothing does."""
        if self.phase8_tune != driver.phase8_tune:
            return f"phase8-tune {self.phase8_tune} there, {driver.phase8_tune} here"
        if self.torch != driver.torch:
            return f"torch {self.torch or 'not installed'} there, {driver.torch or 'not installed'} here"
        if self.sources != driver.sources:
            return f"other sources of phase8-tune {self.phase8_tune} there than here"
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class CardFacts:
    """A GPU of a node, by NVML; use: what others have of it."""

    uuid: str
    name: str
    total_bytes: int
    use: OtherUse | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeFacts:
    """What a node told of itself; missing: files of the user's workloads that it does not have."""

    host: str
    software: Software
    triton: str | None
    driver: str | None
    cards: tuple[CardFacts, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """What the GPUs of one study have in common."""

    gpu: str
    driver: str | None
    triton: str | None

    @classmethod
    def of(cls, facts: NodeFacts) -> Model | None:
        """Of the first GPU of a node; None where NVML lists none."""
        if not facts.cards:
            return None
        return cls(gpu=facts.cards[0].name, driver=facts.driver, triton=facts.triton)

    def describe(self) -> str:
        return f"{self.gpu} (driver {self.driver or 'not told'}, triton {self.triton or 'none'})"


class Sight:
    """How a process on a node looks at where it is. Tests hand on another one, whose GPUs are pretended."""

    @property
    def worker_command(self) -> Sequence[str]:
        return WORKER_COMMAND

    def node(self, files: Sequence[str]) -> NodeFacts:
        """The node; files: of the user's workloads, absolute."""
        nvml = open_nvml().nvml
        return NodeFacts(
            host=platform.node(),
            software=Software.here(),
            triton=installed_version("triton"),
            driver=None if nvml is None else nvml.driver_version(),
            cards=tuple(
                CardFacts(
                    uuid=card.uuid,
                    name=card.name() or "GPU without a name",
                    total_bytes=memory.total_bytes,
                    use=see_other_use(card),
                )
                for card in (() if nvml is None else nvml.cards())
                if (memory := card.memory()) is not None
            ),
            missing=tuple(file for file in files if not Path(file).exists()),
        )

    def gpu(self, numbers: Sequence[str]) -> str:
        """The UUID of the GPU that the cluster gave this process, by its numbers or UUIDs of GPUs.

        Raises: DeviceError where NVML does not know it.
        """
        nvml = open_nvml().nvml
        if nvml is None or len(numbers) != 1:
            given = ", ".join(numbers) or os.environ.get("CUDA_VISIBLE_DEVICES") or "none"
            raise DeviceError(f"expected one GPU that the driver lists, got {given}")
        try:
            return find_gpu(numbers[0], nvml).uuid
        except UserInputError as error:
            raise DeviceError(str(error).removeprefix("--gpus: ")) from error


def refusal(facts: NodeFacts, driver: Software, model: Model | None) -> str | None:
    """Why a node does not serve a study, None where it does. model: of its GPUs, None before it is chosen."""
    if difference := facts.software.difference(driver):
        return f"{difference}; install the same on every node"
    if facts.missing:
        return f"{facts.missing[0]} is not there; keep workloads of your own in a folder that all nodes share"
    own = Model.of(facts)
    if own is None:
        return "NVML lists no GPU there; see what `phase8-tune doctor` says on it"
    if model is not None and own != model:
        return (
            f"{own.describe()} there, and a study is of one: {model.describe()}; --gpu-model chooses another"
        )
    return None


def choose_model(found: Iterable[NodeFacts], wanted: str | None, earlier: str | None) -> Model:
    """The GPUs that serve a study: those wanted, of the run so far, or else the most numerous.

    wanted: a part of the model's name. earlier: the name of the GPU that the run was begun on.
    Raises: UserInputError where none is so, or several are.
    """
    counted: Counter[Model] = Counter()
    for facts in found:
        if (model := Model.of(facts)) is not None:
            counted[model] += len(facts.cards)
    names = {model.gpu for model in counted}
    if wanted is not None:
        fitting = {name for name in names if wanted.casefold() in name.casefold()}
        exact = {name for name in fitting if wanted.casefold() == name.casefold()}
        if len(exact or fitting) != 1:
            raise UserInputError(f"--gpu-model: {one_of(sorted(names), wanted)}")
        names = exact or fitting
    elif earlier in names:
        names = {earlier}
    of_name = {model: count for model, count in counted.items() if model.gpu in names}
    return max(of_name, key=lambda model: (of_name[model], model.describe()))
