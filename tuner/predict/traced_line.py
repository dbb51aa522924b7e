"""A line of candidates that is traced, fitted and replayed as far as answers about it need.

Imports what traces: it runs in the processes that predict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from .climb import largest_fitting, rounder, rungs
from .fit.line import BatchSizes, FitBatches, Line, Tracing, fit_line, trace_batch
from .lines import Answer, Ladder, Question, Rungs
from .replay.program import Peaks, Program

_CLEARLY_BELOW = 0.6
"""A rough answer calls what stays under this share of the cap a fit: fragmentation takes less than that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockTracing:
    """How the steps of a line are traced whose model is a pile of like blocks.

    depth: blocks of the model. is_captured: whether its step is replayed from a CUDA graph. first_fit: the
    smallest batch from which on all sizes are straight lines. input_bytes: of a batch.
    """

    tracing: Tracing
    depth: int
    is_captured: bool
    first_fit: int
    input_bytes: Callable[[int], int]


class TracedLine:
    """A line, traced further where an answer needs it.

    tracing, depth: as `fit_line`. is_captured: whether steps are replayed from a CUDA graph. first_fit: the
    smallest of three batches that are fitted. input_bytes: of a batch, which a capture copies.
    """

    def __init__(
        self,
        line: Line,
        tracing: Tracing,
        *,
        depth: int,
        is_captured: bool,
        first_fit: int,
        input_bytes: Callable[[int], int],
    ) -> None:
        self.line = line
        self._tracing, self._depth, self._first_fit = tracing, depth, first_fit
        self._is_captured, self._input_bytes = is_captured, input_bytes
        self._programs: dict[int, Program] = {}

    def ask(self, question: Question) -> Answer:
        """An answer for which no other batch is traced."""
        return self._asked(question, None)

    def answer(self, questions: Sequence[Question]) -> tuple[Answer, ...]:
        """In order; asked from the smallest batch on."""
        found = {
            question: self._asked(question, self._fit_for(question.batch_size))
            for question in sorted(questions, key=lambda question: question.batch_size)
        }
        return tuple(found[question] for question in questions)

    def climb(self, ladder: Ladder) -> Rungs:
        """The largest batch of a ladder that fits, and what is live at some batches up to there."""

        def ask(batch: int) -> Answer:
            question = Question(
                batch_size=batch,
                cap_bytes=ladder.cap_bytes,
                workspaces=ladder.workspaces,
                is_rough=True,
                any_placement=ladder.any_placement,
            )
            if question not in answers:
                answers[question] = self._asked(question, self._fit_for(batch))
            return answers[question]

        answers: dict[Question, Answer] = {}
        place = largest_fitting(
            ladder.batches,
            ladder.cap_bytes,
            lambda batch: ask(batch).allocated_bytes,
            lambda batch: ask(batch).fits,
        )
        worthwhile = set(rungs(ladder.batches, place))
        if isinstance(ladder.batches, range):
            # No batch is traced for its own sake: others say what lies between them.
            end = ladder.batches[min(place + 1, len(ladder.batches) - 1)]
            worthwhile = {batch for batch in worthwhile if self.line.at(batch) is not None}
            worthwhile |= {batch for batch in self.line.traced if batch in ladder.batches and batch <= end}
        answered = {batch: ask(batch) for batch in sorted(worthwhile)}
        largest = 0 if place < 0 else ladder.batches[place]
        return Rungs(
            largest=largest, answers=answered, recommended=self._recommended(ladder, largest, answered)
        )

    def _recommended(
        self, ladder: Ladder, largest: int, answered: Mapping[int, Answer]
    ) -> tuple[int, Answer] | None:
        """The largest of the rounder batches under the lower cap; live bytes say where to begin, where the
        largest is the last before the cap."""
        start = largest
        below = [batch for batch in answered if batch < largest]
        is_at_cap = isinstance(ladder.batches, range) and largest < ladder.batches[-1]
        if is_at_cap and largest in answered and below:
            grown = answered[largest].allocated_bytes - answered[below[-1]].allocated_bytes
            each = grown / (largest - below[-1])
            if each > 0:
                start = largest - int((ladder.cap_bytes - ladder.spare_cap_bytes) / each)
        for batch in rounder(ladder.batches, max(start, ladder.batches[0]) if largest else 0):
            question = Question(
                batch_size=batch, cap_bytes=ladder.spare_cap_bytes, workspaces=ladder.workspaces
            )
            answer = self._asked(question, self._fit_for(batch))
            if (
                answer.fits and answer.retries
            ):  # with more room other blocks are chosen: seldom it needs more then
                answer = self._asked(replace(question, cap_bytes=ladder.own_cap_bytes), None)
            if answer.fits:
                return batch, answer
        return None

    def _fit_for(self, batch: int) -> FitBatches | None:
        """The batches to trace for one between bounds; None where it is traced alone.

        Where sizes bend longer than the head's, as those do that grow with the multiprocessors in use, larger
        ones are tried.
        """
        first = self._first_fit
        while batch >= first:
            fit = first, 2 * first, 8 * first
            if not self.line.is_tried(fit):
                return fit
            first *= 4
        return None

    def _asked(self, question: Question, fit: FitBatches | None) -> Answer:
        line, batch = self.line, question.batch_size
        sizes = line.at(batch)
        if sizes is None and fit is not None and not line.is_tried(fit):
            fit_line(line, self._tracing, self._depth, fit)
            sizes = line.at(batch)
        if sizes is None:
            sizes = trace_batch(line, batch, self._tracing, self._depth)
        if sizes.structure not in self._programs:
            structure = line.structures[sizes.structure]
            self._programs[sizes.structure] = Program(structure, is_captured=self._is_captured)
        program = self._programs[sizes.structure]
        return _answer(question, sizes, program, line, self._input_bytes(question.batch_size))


def _answer(question: Question, sizes: BatchSizes, program: Program, line: Line, input_bytes: int) -> Answer:
    whole = line.structures[sizes.structure].whole(sizes.sizes)
    fits, peaks = None, None
    if question.is_rough and question.cap_bytes is not None:
        peaks = program.live(whole, question.workspaces)
        if peaks.allocated_bytes > question.cap_bytes:
            fits = False
        elif peaks.allocated_bytes < question.cap_bytes * _CLEARLY_BELOW:
            fits = True
    if fits is None or peaks is None:
        replayed = partial(
            program.replay,
            whole,
            workspaces=question.workspaces,
            cap_bytes=question.cap_bytes,
            input_bytes=input_bytes,
        )
        peaks = replayed()
        fits = peaks.fits and (not question.any_placement or replayed(is_ascending=True).fits)
    return _as_answer(peaks, fits, program, sizes)


def _as_answer(peaks: Peaks, fits: bool, program: Program, sizes: BatchSizes) -> Answer:
    return Answer(
        fits=fits,
        allocated_bytes=peaks.allocated_bytes,
        reserved_bytes=peaks.reserved_bytes,
        by_category=peaks.by_category,
        peak_op=peaks.peak_op,
        peak_phase=peaks.peak_phase,
        retries=peaks.retries,
        is_captured=program.is_captured,
        costs={name: (c.flops, c.moved_bytes, c.launches) for name, c in sizes.costs.items()},
    )
