"""What is predicted of a candidate on a card: its memory ledger, whether it fits, its throughput.

Every number here is predicted, none is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...kernels.versions import CAPTURED_VERSIONS
from ..measuring.memory import cap_bytes
from ..values.candidate import Candidate, Precision
from ..values.errors import NothingFitsError, UserInputError
from ..values.measurement import LedgerLine
from .fits import EXACT, RECOMMEND, FitRule
from .lines import WORKLOADS, Answer, ForeignKey, Key, Ladder, Question, Rungs, line_key, parameter_counts
from .outlook import Forecast, Outlook, Prediction, Rate, Rung
from .rate.profiles import GpuProfile
from .rate.throughput import StepEstimate, estimate_step
from .store import PredictionStore
from .trace.events import CATEGORIES, Cost

LARGEST_BATCH = 1 << 16
"""No search for a batch goes beyond it."""


def refuse(line: Candidate, problem: str) -> None:
    """What is done where nobody else takes a line that cannot be followed.

    Raises: UserInputError.
    """
    raise UserInputError(f"{line.describe()}: {problem}; measure it instead")


def _precision(candidate: Candidate) -> Precision:
    """That of its matrix products: what one of its axes says, in the words of Phase 8."""
    said = candidate.axes.values()
    return "bf16" if "bf16" in said else "fp16" if "fp16" in said else "none"


@dataclass(kw_only=True, slots=True)
class Predictor:
    """Predictions for one card.

    reserve_bytes: part of the budget that is left to other programs.
    """

    profile: GpuProfile
    store: PredictionStore
    reserve_bytes: int = 0

    def predict(self, candidate: Candidate, budget_bytes: int) -> Prediction:
        """The whole prediction of one candidate.

        Raises: UserInputError for a workload that cannot be predicted, or a model, variant or version that
        cannot be built; NothingFitsError for a budget that the context alone exceeds.
        """
        try:
            return self.predict_all([candidate], budget_bytes)[0]
        except ValueError as error:
            raise UserInputError(f"{candidate.describe()}: {error}") from error

    def predict_all(self, candidates: Sequence[Candidate], budget_bytes: int) -> list[Prediction]:
        """The whole predictions of many candidates, in order.

        Raises: ValueError for a candidate that cannot be built; UserInputError for one that its kernel
        version does not take, or of a workload that cannot be predicted; NothingFitsError.
        """
        capped = self.store.ask(
            [self._question(c, self._cap(c, budget_bytes, RECOMMEND)) for c in candidates]
        )
        answers = dict(zip(candidates, capped, strict=True))
        # As it will run: under its own cap where the lower one cost cache, without one where it does not fit
        # under both: with more room other blocks are chosen, and seldom it needs more then.
        fitting = [c for c, answer in answers.items() if answer.fits and answer.retries]
        own = self.store.ask([self._question(c, self._cap(c, budget_bytes, EXACT)) for c in fitting])
        answers |= zip(fitting, own, strict=True)
        over = [c for c, answer in answers.items() if not answer.fits]
        free = dict(zip(over, self.store.ask([self._question(c, None) for c in over]), strict=True))
        return [self._prediction(c, free.get(c, answers[c]), budget_bytes, c not in free) for c in candidates]

    def largest_batch(self, candidate: Candidate, budget_bytes: int) -> int:
        """The largest batch of a candidate that fits (`fits.RECOMMEND`), all else equal; 0 where none does.

        Raises: ValueError, UserInputError, NothingFitsError.
        """
        [outlook] = self.look_ahead(
            [(candidate.line(), range(1, LARGEST_BATCH + 1))], budget_bytes, RECOMMEND
        )
        return outlook.largest

    def look_ahead(
        self,
        lines: Sequence[tuple[Candidate, Sequence[int]]],
        budget_bytes: int,
        rule: FitRule,
        on_outlook: Callable[[Outlook], None] = lambda outlook: None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
        on_problem: Callable[[Candidate, str], None] = refuse,
    ) -> list[Outlook]:
        """The outlooks of lines with their allowed batches, in order; `on_outlook` has each once it is known.

        on_problem: has a line that cannot be followed and why, which then has no outlook.
        rule: what fits. on_progress: as in `PredictionStore.ask`. They are begun in their order.
        Raises: as `survey`.
        """
        found: dict[int, Outlook] = {}

        def take(place: int, rungs: Rungs) -> None:
            line, batches = lines[place]
            found[place] = self._outlook(line, batches, rungs, budget_bytes)
            on_outlook(found[place])

        ladders = []
        for line, batches in lines:
            ladder = Ladder(
                batches=batches if isinstance(batches, range) else tuple(batches),
                cap_bytes=self._cap(line, budget_bytes, rule),
                spare_cap_bytes=self._cap(line, budget_bytes, RECOMMEND),
                own_cap_bytes=self._cap(line, budget_bytes, EXACT),
                workspaces=self.profile.workspaces(),
                any_placement=rule.any_placement,
            )
            ladders.append((line_key(line, self.profile), ladder))
        self.store.climb(ladders, take, lambda place, text: on_problem(lines[place][0], text), on_progress)
        return [found[place] for place in range(len(lines)) if place in found]

    def _outlook(self, line: Candidate, batches: Sequence[int], rungs: Rungs, budget_bytes: int) -> Outlook:
        recommended = None
        if rungs.recommended is not None:
            batch, answer = rungs.recommended
            recommended = self._prediction(line.at(batch), answer, budget_bytes, True)
        return Outlook(
            recommended=recommended,
            line=line,
            batches=batches,
            largest=rungs.largest,
            body_parameters=self.parameters(line)[1],
            rungs={
                batch: Rung(
                    peak_bytes=self.outside_bytes(line) + answer.allocated_bytes,
                    step=self.step(line, answer),
                )
                for batch, answer in rungs.answers.items()
            },
        )

    def survey(
        self,
        candidates: Sequence[Candidate],
        budget_bytes: int,
        rule: FitRule,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Forecast]:
        """Forecasts of many candidates, in order; what is clearly over or under is not replayed.

        rule: which candidates count as over. on_progress: as in `PredictionStore.ask`.
        Raises: UserInputError for a candidate that its kernel version does not take, or of a workload that
        cannot be predicted; NothingFitsError.
        """
        lines = [(candidate.line(), (candidate.batch_size,)) for candidate in candidates]
        outlooks = self.look_ahead(lines, budget_bytes, rule, on_progress=on_progress)
        return [o.forecast(c.batch_size) for c, o in zip(candidates, outlooks, strict=True)]

    def parameters(self, candidate: Candidate) -> tuple[int, int]:
        """Parameters of a candidate's model, and those without the position table.

        Raises: ValueError for a model or a variant that does not exist; UserInputError for a workload that
        cannot be predicted.
        """
        key = line_key(candidate, self.profile)
        if not isinstance(key, ForeignKey):
            return parameter_counts(candidate.line())
        count, positions = self.store.parameters(key), candidate.spec.position_parameters
        of_table = 0 if positions is None else positions(candidate.model, candidate.axes)
        return count, count - of_table

    def outside(self, candidate: Candidate) -> list[LedgerLine]:
        """What the process takes of the card besides torch's allocator."""
        profile = self.profile
        figures = {"context": profile.context_bytes, "libraries": profile.libraries_bytes}
        if candidate.workload in WORKLOADS and candidate.version in CAPTURED_VERSIONS:
            figures["graph"] = profile.graph_bytes
        return [
            LedgerLine(name=name, size_bytes=int(figure.value), source=f"{figure.basis}: {figure.source}")
            for name, figure in figures.items()
        ]

    def outside_bytes(self, candidate: Candidate) -> int:
        """The sum of `outside`."""
        return sum(line.size_bytes for line in self.outside(candidate))

    def _question(self, candidate: Candidate, cap: int | None) -> tuple[Key, Question]:
        question = Question(
            batch_size=candidate.batch_size,
            cap_bytes=cap,
            workspaces=self.profile.workspaces(),
        )
        return line_key(candidate, self.profile), question

    def _prediction(self, candidate: Candidate, answer: Answer, budget_bytes: int, fits: bool) -> Prediction:
        assert answer.reserved_bytes is not None  # it fits under its own cap, or there is none
        ledger = self._ledger(candidate, answer, answer.reserved_bytes)
        step = self.step(candidate, answer)
        parameters, body_parameters = self.parameters(candidate)
        return Prediction(
            candidate=candidate,
            gpu=self.profile.name,
            budget_bytes=budget_bytes,
            parameters=parameters,
            body_parameters=body_parameters,
            ledger=ledger,
            peak_bytes=sum(line.size_bytes for line in ledger),
            peak_allocated_bytes=answer.allocated_bytes,
            peak_reserved_bytes=answer.reserved_bytes,
            peak_op=answer.peak_op,
            peak_phase=answer.peak_phase,
            fits=fits,
            tokens_per_s=Rate.of(candidate, step),
            limited_by=step.limited_by,
        )

    def _cap(self, candidate: Candidate, budget_bytes: int, rule: FitRule) -> int:
        """What torch may reserve: the budget without what is outside of it and the reserve, as a rule has it.

        Raises: NothingFitsError where that leaves nothing.
        """
        outside = {line.name: line.size_bytes for line in self.outside(candidate)}
        graph_bytes = outside.pop("graph", 0)
        held_bytes = sum(outside.values())
        cap = cap_bytes(  # of a larger budget than the card has it is the card that has to have the margin
            budget_bytes=rule.budget_bytes(min(budget_bytes, self.profile.capacity_bytes)),
            reserve_bytes=self.reserve_bytes,
            held_bytes=held_bytes,
            capacity_bytes=self.profile.capacity_bytes,
        )
        if cap <= 0:
            raise NothingFitsError(
                f"--vram: expected room for a model beside the CUDA context, its libraries and --reserve, "
                f"{held_bytes + self.reserve_bytes} bytes on {self.profile.name}, got none"
            )
        return rule.cap_bytes(max(cap - graph_bytes, 1))  # of other versions some may fit yet

    def _ledger(self, candidate: Candidate, answer: Answer, reserved_bytes: int) -> tuple[LedgerLine, ...]:
        lines = [
            LedgerLine(name=name, size_bytes=answer.by_category[name], source="predicted: trace, at the peak")
            for name in CATEGORIES
        ]
        counted = sum(line.size_bytes for line in lines)
        fragmentation = LedgerLine(
            name="fragmentation",
            size_bytes=reserved_bytes - counted,
            source="predicted: allocator replay, reserved - live",
        )
        lines += [fragmentation, *self.outside(candidate)]
        return tuple(lines)

    def step(self, candidate: Candidate, answer: Answer) -> StepEstimate:
        """The roofline of a candidate."""
        return estimate_step(
            {name: Cost(*values) for name, values in answer.costs.items()},
            self.profile,
            precision=_precision(candidate),
            n_seq=candidate.length,
            is_captured=answer.is_captured,
        )
