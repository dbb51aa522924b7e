"""The loop around the training step: rates, evaluation, checkpoints, and how it ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..values.errors import Phase8TuneError
from ..values.interrupt import interrupt_deferred
from ..workloads.trainer import Trainer, take_step
from .batches import BatchSource
from .card import HeldCard
from .checkpoint import Checkpoint, Progress, write_checkpoint, write_weights
from .display import TrainingDisplay
from .metrics import MetricsLog
from .places import best_path, resume_path
from .wanted import Identity, Wanted


class Ending(StrEnum):
    """How a training ended."""

    DONE = "done"
    TIME = "time"
    INTERRUPTED = "interrupted"


class DivergedError(Phase8TuneError):
    """The loss is no longer a number."""

    exit_code = 1


class Training:
    """One session of a training, from `progress` on. Ends by itself, by time, or by a signal, and is saved.

    held_out: batches to evaluate, int64 [B, N + 1] each. card, tokens: None on a CPU; tokens: the one batch
    on the card, which evaluation uses too.
    """

    def __init__(
        self,
        trainer: Trainer,
        batches: BatchSource,
        held_out: Sequence[NDArray[np.int64]],
        wanted: Wanted,
        identity: Identity,
        progress: Progress,
        display: TrainingDisplay,
        metrics: MetricsLog,
        card: HeldCard | None = None,
        tokens: Tensor | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._trainer, self._batches, self._held_out = trainer, batches, held_out
        self._wanted, self._identity, self._display, self._metrics = wanted, identity, display, metrics
        self.card, self._tokens, self._clock = card, tokens, clock
        self._progress = replace(
            progress,
            steps=wanted.steps,
            learning_rate=wanted.schedule.peak,
            warmup_steps=wanted.schedule.warmup_steps,
            evaluated_step=progress.step if progress.evaluated_step is None else progress.evaluated_step,
        )
        self._first_batch = progress.first_batch(wanted.parts)
        self._is_saved = True
        self.step = self._first = self._saved = self._logged = self._checked = progress.step
        self.held_out_loss: float | None = None
        self._losses = torch.zeros(wanted.log_every, device=trainer.device)
        self._began_s = self._since_s = clock()
        self._since_step: int | None = None  # None: what is timed now is set-up
        settings = identity.settings
        self._tokens_per_step = settings.batch_size * settings.n_seq * wanted.parts
        self._steady_s, self._steady_steps = 0.0, 0
        self._is_torn = False

    @property
    def tokens_per_s(self) -> float | None:
        """Of all steady steps of this session, without evaluation and saving; None where there were none."""
        return self._steady_steps * self._tokens_per_step / self._steady_s if self._steady_steps else None

    @property
    def metrics_problem(self) -> str | None:
        """Why metrics could not be written, None where they were."""
        return self._metrics.problem

    def run(self) -> Ending:
        """Train until the steps are done, the time is up, or a signal asks to end; then save.

        Raises: DivergedError; UserInputError where a checkpoint cannot be written; RuntimeError (torch's).
        """
        try:
            ending = self._run()
        except KeyboardInterrupt:
            if self._is_torn:
                raise  # a second signal, in mid-step: the weights are of no step, the last checkpoint counts
            ending = Ending.INTERRUPTED
            if self.step > self._logged:
                self._log()
        if not self._is_saved:
            self._save()
        if self.step > self._first or not self._identity.output.exists():
            write_weights(self._identity.output, self._checkpoint())
        return ending

    def _run(self) -> Ending:
        wanted = self._wanted
        while True:
            self._attend_to_step()
            if self.step >= wanted.steps:
                return Ending.DONE
            if wanted.max_time_s is not None and self._clock() - self._began_s >= wanted.max_time_s:
                return Ending.TIME
            # A step and its count are one: a signal between them would make a checkpoint lie.
            with interrupt_deferred():
                self._take_step()
                self._tell_of_step()

    def _take_step(self) -> None:
        self._is_torn = True
        self._trainer.set_learning_rate(self._wanted.schedule.rate(self.step))
        loss = take_step(self._trainer, self._batches.next, self._wanted.parts)
        self._losses[self.step % self._wanted.log_every].copy_(loss)
        self.step += 1
        self._is_torn = self._is_saved = False

    def _tell_of_step(self) -> None:
        if self.step - self._first == self._setup_steps():
            self._settle()
        if self.step % self._wanted.log_every == 0 or self.step == self._wanted.steps:
            self._log()

    def _attend_to_step(self) -> None:
        """What is due after the step that was taken last, in this session or before a signal ended one."""
        if self._wanted.is_owed(self._state()):
            self._evaluate()
        if self.step % self._wanted.save_every == 0 and not self._is_saved:
            with interrupt_deferred():
                self._save()

    def _setup_steps(self) -> int:
        """Steps of this session before all are alike. With parts the captures are over after as many
        calls."""
        return self._trainer.setup_calls

    def _settle(self) -> None:
        self._synchronize()
        if self.card is not None:
            self.card.settle()
        self._restart_clock()

    def _log(self) -> None:
        loss = self._check_losses()
        self._logged = self.step
        rate = self._take_rate()
        memory_bytes = None if self.card is None else self.card.peak_bytes()
        self._display.show(self.step, loss, rate, memory_bytes)
        values = {"loss": loss, "learning_rate": self._wanted.schedule.rate(self.step - 1)}
        if rate:
            values["tokens_per_s"] = rate
        if memory_bytes is not None:
            values["memory_bytes"] = memory_bytes
        self._metrics.add(self.step, **values)
        if self.card is not None and rate and (warning := self.card.warn_of_spill(rate)):
            self._display.tell(warning)

    def _check_losses(self) -> float:
        """The loss of the last step. Nothing is kept of a training after a loss that is no number.

        Raises: DivergedError, with the first such step.
        """
        every = self._wanted.log_every
        losses = self._losses.tolist()  # synchronises, so that the clock covers finished work
        for step in range(max(self._checked, self.step - every), self.step):
            if not math.isfinite(losses[step % every]):
                self._end_diverged(step, losses[step % every])
        self._checked = self.step
        return float(losses[(self.step - 1) % every])

    def _take_rate(self) -> float:
        """Tokens/s since the clock was last started; 0 during the set-up."""
        if self._since_step is None or self.step == self._since_step:
            return 0.0
        seconds, steps = self._clock() - self._since_s, self.step - self._since_step
        self._steady_s += seconds
        self._steady_steps += steps
        self._since_s, self._since_step = self._clock(), self.step
        return steps * self._tokens_per_step / seconds

    def _restart_clock(self) -> None:
        """What came between the steps is not in their rate."""
        if self.step - self._first >= self._setup_steps():
            self._since_s, self._since_step = self._clock(), self.step

    def _evaluate(self) -> None:
        """A signal is obeyed between two batches: the evaluation is then owed, and made by who goes on."""
        with interrupt_deferred():
            self._check_losses()
            self._take_rate_before_pause()
        losses = torch.stack([self._evaluate_batch(batch) for batch in self._held_out])
        with interrupt_deferred():
            self._take_held_out_loss(float(losses.mean()))
            self._restart_clock()

    def _evaluate_batch(self, batch: NDArray[np.int64]) -> Tensor:
        with interrupt_deferred():
            on_host = torch.from_numpy(batch)
            if self._tokens is None:
                return self._trainer.evaluate(on_host)
            loss = self._trainer.evaluate(self._tokens[: len(batch)].copy_(on_host))
            self._synchronize()  # or all batches are under way before a signal is seen
            return loss

    def _take_held_out_loss(self, loss: float) -> None:
        if not math.isfinite(loss):  # the last update's weights, which no training loss has seen
            self._end_diverged(self.step - 1, loss)
        self.held_out_loss = loss
        self._metrics.add(self.step, held_out_loss=loss)
        self._display.tell(f"step {self.step}/{self._wanted.steps}  held-out loss {loss:.4f}")
        best = self._progress.best_loss
        if best is None or loss < best:
            write_weights(best_path(self._identity.output), self._checkpoint())
            best = loss
        self._progress = replace(self._progress, best_loss=best, evaluated_step=self.step)
        self._is_saved = False

    def _save(self) -> None:
        self._check_losses()
        self._take_rate_before_pause()
        write_checkpoint(resume_path(self._identity.output), self._checkpoint())
        self._saved, self._is_saved = self.step, True
        self._restart_clock()

    def _take_rate_before_pause(self) -> None:
        if self._since_step is not None and self.step > self._since_step:
            self._synchronize()
            self._take_rate()

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(
            settings=self._identity.settings,
            tensors=self._trainer.tensors(),
            tokenizer=self._identity.tokenizer,
            progress=self._state(),
        )

    def _state(self) -> Progress:
        """How far it is now."""
        batches = self._first_batch + (self.step - self._first) * self._wanted.parts
        return replace(
            self._progress, step=self.step, batches=batches, tokens_per_update=self._tokens_per_step
        )

    def _end_diverged(self, step: int, loss: float) -> None:
        kept = (
            f"{resume_path(self._identity.output)} has step {self._saved}"
            if self._saved
            else "nothing is saved"
        )
        raise DivergedError(
            f"the loss became {loss} at step {step + 1}; {kept}: lower --learning-rate "
            f"(now {self._wanted.schedule.peak:g}) or raise --warmup, and start again with --no-resume"
        )

    def _synchronize(self) -> None:
        if self._trainer.device.type == "cuda":
            torch.cuda.synchronize()
