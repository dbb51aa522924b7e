"""Beside the measuring on a GPU whose figures are known: lines are predicted, kernels compiled."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..compiling.ahead import KernelCompiler
from ..machine.devices import device_uuids
from ..machine.nvml import open_nvml
from ..predict.rate.calibration import known_profile
from ..predict.rate.profiles import GpuProfile
from ..predict.tracers import LocalTracers
from ..search.foresight import Foresight, LookingAhead
from ..study.definition import StudyDefinition
from ..study.space import SearchSpace

_LEFT_TO_MEASURING = 2
"""Cores that are left to the driver and the worker: steps that wait for the host are timed meanwhile."""
COMPILER_LOG = "compiler.log"
"""In the run's folder, beside the worker's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ahead:
    """What is known and made ready of a study, for a card with these figures."""

    profile: GpuProfile
    foresight: Foresight
    compiler: KernelCompiler


@contextmanager
def working_ahead(
    definition: StudyDefinition,
    kind: Literal["cuda", "cpu"],
    gpus: tuple[str, ...],
    *,
    budget_bytes: int,
    reserve_bytes: int,
    root: Path,
    tell: Callable[[str], None],
) -> Iterator[Ahead | None]:
    """Predict and compile while the block runs; None, told in a line, for a GPU without figures.

    gpus: UUIDs; none: the first visible. root: the run's folder. tell: called from another thread too.
    """
    if kind != "cuda":
        yield None
        return
    nvml = open_nvml().nvml
    cards = [] if nvml is None else [card for uuid in device_uuids(gpus) if (card := nvml.find(uuid))]
    title, memory = (cards[0].name(), cards[0].memory()) if cards else (None, None)
    profile = None if title is None else known_profile(title, None if memory is None else memory.total_bytes)
    if profile is None:
        tell(
            f"no figures of {title or 'this GPU'}, so nothing is predicted; "
            "`phase8-tune predict --calibrate` measures them for the next run"
        )
        yield None
        return
    processes = max(((os.cpu_count() or 1) - _LEFT_TO_MEASURING) // 2, 1)  # of each kind
    looking = LookingAhead(
        SearchSpace(definition),
        profile,
        budget_bytes=budget_bytes,
        reserve_bytes=reserve_bytes,
        tracers=LocalTracers(processes),
        on_problem=lambda problem: tell(f"not predicted, so measured without: {problem}"),
    )
    with KernelCompiler(profile, processes=processes, log=root / COMPILER_LOG) as compiler, looking as ahead:
        yield Ahead(profile=profile, foresight=ahead.foresight, compiler=compiler)
