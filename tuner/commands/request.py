"""What a user asked for, and what follows from it before any device is touched: the study and the folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..measuring.memory import MARGIN
from ..measuring.reserve import OtherUse, reserve_for_others
from ..study.changes import with_models, with_vocab_size, with_workloads
from ..study.definition import Sampler, StudyDefinition, parse_definition, read_definition_text
from ..study.model_names import model_option
from ..values.errors import UserInputError
from ..values.record import Record
from ..values.sizes import format_budget, format_mb, format_size
from ..workloads.spec import check_needs


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequest:
    """What the user asked for; None where the study or the device decides. `command` is the line typed.

    gpu, gpu_file: plan for the card of this name, or in this file, instead of measuring. cluster: auto, or
    the address of the Ray cluster that measures; gpu_model: which of its GPUs. storage: URL of the
    database that holds the study; is_taken_over: from a driver that has died. reserve_bytes: None for auto.
    exhaustive: True for the whole space, without the study's own limit of trials.
    """

    vram_bytes: int
    command: str
    study: str | None = None
    device: Literal["auto", "cuda", "cpu"] = "auto"
    gpu: str | None = None
    gpu_file: Path | None = None
    gpus: str | None = None
    cluster: str | None = None
    gpu_model: str | None = None
    storage: str | None = None
    is_taken_over: bool = False
    models: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    vocab_size: int | None = None
    run_name: str | None = None
    runs_dir: Path = Path("runs")
    trials: int | None = None
    time_limit_s: float | None = None
    timeout_s: float | None = None
    reserve_bytes: int | None = None
    seed: int | None = None
    sampler: Sampler | None = None
    exhaustive: bool | None = None


def read_study(name_or_path: str, request: RunRequest) -> tuple[StudyDefinition, str]:
    """The study with what the request changes in it, and its text.

    Raises: UserInputError.
    """
    text, source = read_definition_text(name_or_path)
    definition = parse_definition(text, source)
    if request.workloads:
        definition = with_workloads(definition, request.workloads)
    if request.models:
        definition = with_models(definition, model_option(request.models, definition.workloads))
    if request.vocab_size is not None:
        definition = with_vocab_size(definition, request.vocab_size)
    if request.workloads or request.models or request.vocab_size is not None:  # another study than its text
        text = definition.to_yaml()
        definition = parse_definition(text, source)
    for spec in definition.specs:
        check_needs(spec)
    asked = {
        "seed": request.seed,
        "trials": request.trials,
        "time_limit_s": request.time_limit_s,
        "sampler": request.sampler,
        "exhaustive": request.exhaustive,
    }
    changed = {key: value for key, value in asked.items() if value is not None}
    unlimited = {"trials": None} if request.exhaustive else {}
    search = definition.search.model_copy(update=unlimited | changed)
    return definition.model_copy(update={"search": search}), text


def run_root(request: RunRequest, definition: StudyDefinition, device: str) -> Path:
    """The run's folder. The default name is the same each time, so that the same command goes on.

    device: cuda, cpu, or the name of the card that is planned for.
    Raises: UserInputError for a name that is no folder's.
    """
    name = request.run_name
    if name is None:
        vocabulary = () if request.vocab_size is None else (f"vocab{request.vocab_size}",)
        workloads = (re.sub(r"(\.py)?[^\w.-]+", "_", name.strip("./")) for name in request.workloads)
        changed = *workloads, *model_option(request.models, definition.workloads), *vocabulary
        name = "-".join((definition.name, *changed, format_size(request.vram_bytes), device))
        return request.runs_dir / name
    if not name.strip() or name in (".", "..") or any(c in "/\\" or c < " " for c in name):
        raise UserInputError(f"--run: expected a plain folder name such as my-laptop, got {name!r}")
    return request.runs_dir / name


def settle_budget(request: RunRequest, total_bytes: int, owner: str, tell: Callable[[str], None]) -> int:
    """The budget asked for, or the device's size where that is smaller. owner: "this GPU has", for the user.

    tell: told in a line where it is.
    Raises: UserInputError where the reserve takes all of it.
    """
    budget_bytes = request.vram_bytes
    if budget_bytes > total_bytes:
        tell(
            f"warning: --vram {format_budget(budget_bytes)} is more than {owner}; "
            f"its {format_mb(total_bytes)} MB are the budget"
        )
        budget_bytes = total_bytes
    if request.reserve_bytes is not None and request.reserve_bytes >= budget_bytes:
        raise UserInputError(
            f"--reserve: expected less than the budget of {format_budget(budget_bytes)}, "
            f"got {format_budget(request.reserve_bytes)}"
        )
    return budget_bytes


def settle_reserve(
    request: RunRequest,
    budget_bytes: int,
    uses: Sequence[OtherUse | None],
    earlier: Sequence[Record],
    tell: Callable[[str], None],
) -> int:
    """What of the budget is left to others: as asked for, or for auto what they need of these GPUs now.

    uses: of each GPU. earlier: the run's records, so that a run that is gone on with keeps to one reserve.
    tell: told how much, and why.
    Raises: UserInputError where others leave nothing of the budget.
    """
    if request.reserve_bytes is not None:
        return request.reserve_bytes
    found = reserve_for_others(uses, budget_bytes=budget_bytes)
    if found.size_bytes >= budget_bytes:
        raise UserInputError(
            f"{found.told}, which leaves nothing of {format_budget(budget_bytes)}; close other programs on "
            "the card, or say with --reserve what they shall have"
        )
    ledgers = (record.measurement.ledger for record in earlier)
    before_bytes = max(
        (line.size_bytes for ledger in ledgers for line in ledger if line.name == MARGIN), default=0
    )
    if before_bytes > found.size_bytes:
        tell(f"--reserve auto: {format_mb(before_bytes)} MB of the budget, as earlier in this run")
        return before_bytes
    if found.told is not None:
        tell(found.told)
    return found.size_bytes
