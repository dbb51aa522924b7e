"""What names a line of candidates, and what is asked and answered about it: no torch, safe to send between
processes."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

from ..values.axes import AxisValue
from ..values.candidate import Candidate, Checkpointing, MasterWeights, Mode, OptimizerState, Precision
from ..values.errors import UserInputError
from ..values.workload_spec import known_spec
from ..workloads.sources import workload_sources
from .rate.profiles import GpuProfile
from .trace.events import LOSS_SCALING, Category, Phase, Workspaces
from .trace.limits import Limits

WORKLOADS = ("phase8",)
"""The workloads whose steps are traced block by block; those of others, a factory's, as a whole."""
_ALIKE_IN_16_BITS = ("reference", "v1", "v2")
"""Versions that do the same in bfloat16 and float16; a test holds their traces equal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LineKey:
    """A candidate without its batch, and the limits of the GPU."""

    workload: str
    model: str
    variant: str
    n_seq: int
    kernel_version: str
    gradient_checkpointing: Checkpointing
    mixed_precision: Precision
    mode: Mode
    vocab_size: int
    optimizer_state: OptimizerState = "fp32"
    master_weights: MasterWeights = "fp32"
    gradient_accumulation: int = 1
    limits: Limits

    def digest(self, version: str) -> str:
        """A file name for it: 24 hexadecimal digits of all it depends on and the version of the code."""
        text = json.dumps([version, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignKey:
    """A line of a factory's model, and what of the GPU its trace depends on.

    sources: a digest of what the factory's step follows from, beside the code that traces.
    """

    workload: str
    model: str
    axes: tuple[tuple[str, AxisValue], ...]
    limits: Limits
    capability: str
    sources: str

    def digest(self, version: str) -> str:
        """As `LineKey.digest`."""
        text = json.dumps([version, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


Key = LineKey | ForeignKey
K = TypeVar("K", bound=Key)


@functools.cache
def parameter_counts(line: Candidate) -> tuple[int, int]:
    """Parameters of a line's model, and those without the position table.

    line: of a workload in `WORKLOADS`, whose spec counts both.
    Raises: ValueError for a model that does not exist.
    """
    spec = line.spec
    assert spec.parameters is not None
    assert spec.position_parameters is not None
    count = spec.parameters(line.model, line.axes)
    return count, count - spec.position_parameters(line.model, line.axes)


def is_predictable(candidate: Candidate) -> bool:
    """Whether a candidate's step may be traced: of a factory only training, where nothing hides from it."""
    if candidate.workload in WORKLOADS:
        return True
    return candidate.mode == "train" and known_spec(candidate.workload) is not None


def line_key(candidate: Candidate, profile: GpuProfile) -> Key:
    """The line of a candidate on a card.

    Raises: UserInputError for a candidate of a workload that cannot be predicted.
    """
    if candidate.workload in WORKLOADS or not is_predictable(candidate):
        return line_under(candidate, limits_of(profile))
    return ForeignKey(
        workload=candidate.workload,
        model=candidate.model,
        axes=tuple(candidate.axes.items()),
        limits=limits_of(profile),
        capability=profile.compute_capability,
        sources=workload_sources(candidate.workload),
    )


def limits_of(profile: GpuProfile) -> Limits:
    """What a trace depends on of a card."""
    return Limits(
        shared_memory_bytes=profile.shared_memory_per_block_bytes,
        multiprocessors=profile.multiprocessors,
        threads_per_multiprocessor=profile.threads_per_multiprocessor,
    )


def line_under(candidate: Candidate, limits: Limits) -> LineKey:
    """The line of a candidate on any GPU with these limits.

    Raises: as `line_key`.
    """
    if candidate.workload not in WORKLOADS:
        raise UserInputError(
            f"{candidate.describe()}: expected a candidate of a workload that can be predicted, "
            f"{' or '.join(WORKLOADS)}, or training of one that is described, got one of "
            f"{candidate.workload}; measure it instead"
        )
    return LineKey(
        workload=candidate.workload,
        model=candidate.model,
        variant=candidate.variant,
        n_seq=candidate.n_seq,
        kernel_version=candidate.kernel_version,
        gradient_checkpointing=candidate.gradient_checkpointing,
        mixed_precision=candidate.mixed_precision,
        mode=candidate.mode,
        vocab_size=candidate.vocab_size,
        optimizer_state=candidate.optimizer_state,
        master_weights=candidate.master_weights,
        gradient_accumulation=candidate.gradient_accumulation,
        limits=limits,
    )


def traced_key(key: K) -> K:
    """The line that is traced for a line: bfloat16 steps are float16 steps without the loss scaling.

    Both have two bytes an element. A bfloat16 step is answered with the few scalars that scaling keeps; its
    work has a class of its own, which is left out.
    """
    is_alike = isinstance(key, LineKey) and key.kernel_version in _ALIKE_IN_16_BITS
    if isinstance(key, LineKey) and is_alike and key.mixed_precision == "bf16":
        return replace(key, mixed_precision="fp16")
    return key


def rungs_for(key: Key, rungs: Rungs) -> Rungs:
    """What the rungs of a traced line say of a line."""
    answers = {batch: answer_for(key, answer) for batch, answer in rungs.answers.items()}
    recommended = None
    if rungs.recommended is not None:
        batch, answer = rungs.recommended
        recommended = batch, answer_for(key, answer)
    return replace(rungs, answers=answers, recommended=recommended)


def answer_for(key: Key, answer: Answer) -> Answer:
    """What the answer about a traced line says of a line."""
    if isinstance(key, ForeignKey) or key.mixed_precision == "fp16" or LOSS_SCALING not in answer.costs:
        return answer
    return replace(answer, costs={k: v for k, v in answer.costs.items() if k != LOSS_SCALING})


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What torch's allocator takes at a batch, under a cap (None: none).

    is_rough: whether a plain answer may do without the replay: where the live bytes alone exceed the cap, or
    stay far below it. any_placement: whether it shall fit wherever the driver puts segments
    (`fits.FitRule.any_placement`).
    """

    batch_size: int
    cap_bytes: int | None
    workspaces: Workspaces
    is_rough: bool = False
    any_placement: bool = False

    def name(self) -> str:
        kind = int(self.is_rough), int(self.any_placement)
        numbers = (self.batch_size, self.cap_bytes, *self.workspaces, *kind)
        return "/".join(map(str, numbers))


@dataclass(frozen=True, kw_only=True, slots=True)
class Ladder:
    """Which batches of a line fit under a cap, and what some of them take.

    batches: those that are allowed, ascending: all between two bounds (a range), or a few.
    spare_cap_bytes: of what is to be recommended, at most `cap_bytes`. own_cap_bytes: under which that runs.
    any_placement: as of a question, of what fits under `cap_bytes`.
    """

    batches: range | tuple[int, ...]
    cap_bytes: int
    spare_cap_bytes: int
    own_cap_bytes: int
    workspaces: Workspaces
    any_placement: bool = False

    def name(self) -> str:
        batches = self.batches
        shown = f"{batches[0]}..{batches[-1]}" if isinstance(batches, range) else ",".join(map(str, batches))
        caps = self.cap_bytes, self.spare_cap_bytes, self.own_cap_bytes
        return "/".join(map(str, (shown, *caps, *self.workspaces, int(self.any_placement))))


@dataclass(frozen=True, kw_only=True, slots=True)
class Rungs:
    """What is known of a ladder: the largest of its batches that fits, 0 where none does, and plain answers.

    answers: by batch, ascending, of some batches up to the largest, the largest itself, and the next that
    does not fit; `Answer.reserved_bytes` where it was needed to decide. recommended: the largest of the
    rounder batches that fits under the lower cap, replayed under its own; None where none does.
    """

    largest: int
    answers: dict[int, Answer]
    recommended: tuple[int, Answer] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """Bytes of the allocator's peaks, and the work of a step.

    reserved_bytes: None where it does not fit, or where a rough answer did not need it. costs: class of
    operations → (FLOP, bytes moved, launches). is_captured: whether the step is replayed from a CUDA graph.
    """

    fits: bool
    allocated_bytes: int
    reserved_bytes: int | None
    by_category: dict[Category, int]
    peak_op: str
    peak_phase: Phase
    retries: int
    is_captured: bool
    costs: dict[str, tuple[float, float, float]]
