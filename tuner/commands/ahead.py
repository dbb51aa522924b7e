"""Beside the measuring on a GPU whose figures are known: lines are predicted, kernels compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..compiling.ahead import KernelCompiler
from ..places.here import processes_ahead
from ..places.place import Devices
from ..predict.rate.calibration import known_profile
from ..predict.rate.profiles import GpuProfile
from ..search.foresight import Foresight, LookingAhead
from ..study.definition import StudyDefinition
from ..study.space import SearchSpace

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
    devices: Devices,
    *,
    budget_bytes: int,
    reserve_bytes: int,
    root: Path,
    tell: Callable[[str], None],
) -> Iterator[Ahead | None]:
    """Predict and compile while the block runs; None, told in a line, for a GPU without figures.

    root: the run's folder. tell: called from another thread too.
    """
    if devices.kind != "cuda":
        yield None
        return
    card = devices.card()
    profile = None if card is None else known_profile(card.title, card.total_bytes)
    if profile is None:
        tell(
            f"no figures of {'this GPU' if card is None else card.title}, so nothing is predicted; "
            "`phase8-tune predict --calibrate` measures them for the next run"
        )
        yield None
        return
    looking = LookingAhead(
        SearchSpace(definition),
        profile,
        budget_bytes=budget_bytes,
        reserve_bytes=reserve_bytes,
        tracers=devices.tracers(),
        on_problem=lambda problem: tell(f"not predicted, so measured without: {problem}"),
    )
    compiling = KernelCompiler(profile, processes=processes_ahead(), log=root / COMPILER_LOG)
    with compiling as compiler, looking as ahead:
        yield Ahead(profile=profile, foresight=ahead.foresight, compiler=compiler)
