"""How far a traced training step is: its phase, the block and the part of the model that is at work.

Going forward the blocks say when they begin. Going backward, the number that autograd gave a node tells when
it was made, and so for which block.
"""

from __future__ import annotations

from bisect import bisect_right

import torch

from .event_log import EventLog
from .events import GLOBAL


def autograd_thread() -> str:
    """Which thread would run this on CUDA: autograd's backward pass has one of its own."""
    return "forward" if torch._C._current_graph_task_id() == -1 else "backward"


class Progress:
    """Keeps the log's `phase`, `unit` and `category`.

    is_step: false while the model is built. is_marked: optimizers say when they work; else all that comes
    after a backward pass is theirs.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.is_step = self.is_marked = False
        self._first_numbers: list[int] = []  # by block
        self._loss_number: int | None = None

    def begin_step(self) -> None:
        self.is_step = True
        self.begin_part()

    def begin_part(self) -> None:
        """A step goes forward again, on another batch."""
        log = self._log
        log.phase, log.unit, log.category = "forward", 0, "activations"
        self._first_numbers, self._loss_number = [], None

    def begin_block(self, unit: int) -> None:
        """The forward pass enters a block; a block computed again in the backward pass says nothing new."""
        if torch._C._current_graph_task_id() == -1:
            self._log.unit = unit
            self._first_numbers.append(_next_number())

    def begin_loss(self) -> None:
        self._log.category = "loss"
        self._loss_number = _next_number()

    def begin_optimizer(self) -> None:
        log = self._log
        log.phase, log.unit, log.category = "optimizer", GLOBAL, "optimizer"

    def end_optimizer(self) -> None:
        log = self._log
        log.phase, log.unit, log.category = "forward", 0, "activations"

    def follow(self) -> None:
        """To be called before anything is logged; does nothing outside of a step."""
        if not self.is_step:
            return
        log = self._log
        if torch._C._current_graph_task_id() == -1:
            if log.phase == "backward" and self.is_marked:
                log.phase, log.category = "forward", "activations"
            elif log.phase == "backward":
                log.phase, log.unit, log.category = "optimizer", GLOBAL, "optimizer"
            return
        log.phase = "backward"
        node = torch._C._current_autograd_node()
        number = -1 if node is None else node._sequence_nr()
        if number < 0 or number >= 1 << 63:  # AccumulateGrad runs with the node before it
            return
        is_loss = self._loss_number is not None and number >= self._loss_number
        log.category = "loss" if is_loss else "activations"
        log.unit = max(bisect_right(self._first_numbers, number) - 1, 0)


def _next_number() -> int:
    """The number that autograd gives the next node of the graph."""
    return int(torch.autograd._get_sequence_nr())  # type: ignore[attr-defined]
