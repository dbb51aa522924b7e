"""A trainer that was built under the tracer, for steps of one batch after another.

Building takes a fifth of a trace and does not depend on the batch: one line's traces share it.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator

import torch

from ....kernels.versions import CAPTURED_VERSIONS
from ....phase8.config import Phase8Config
from ....phase8.mixers import Block
from ....phase8.optimizer import CompactAdamW
from ....phase8.training import Trainer, TrainingOptions
from ...predict.trace.bodies import Bodies
from ...predict.trace.events import GLOBAL, Event
from ...predict.trace.limits import Limits
from ...predict.trace.patches import replaced
from ...predict.trace.tracer import Tracer

_BODIES: dict[Limits, Bodies] = {}
"""A process traces many like models: what custom operations do is gone through once for each GPU."""


class TracedTrainer:
    """A trainer without data and the tracer that saw it being built.

    setup: the events of building it. weights: the slots of its parameters and buffers.
    Raises: UnsupportedVersionError where the kernel version does not take this model.
    """

    def __init__(self, config: Phase8Config, options: TrainingOptions, limits: Limits) -> None:
        self.tracer = Tracer(torch.device("meta"), limits.processors, _BODIES.setdefault(limits, {}))
        log = self.tracer.log
        with self.tracer:
            with _units_of_blocks(self.tracer, config.n_layers), _optimizer_is_made(self.tracer):
                self.trainer = Trainer(config, options, device=self.tracer.device)
            if options.kernel_version in CAPTURED_VERSIONS and not self.trainer.captures:
                self._keep_rate_on_device()
        self.weights = {self.tracer.slot(p) for p in self.trainer.model.parameters()}
        self.weights |= {self.tracer.slot(b) for b in self.trainer.model.buffers()}
        self.setup: list[Event] = log.take()
        self._start = log.mark()
        self._scaler = copy.deepcopy(self.trainer.scaler)

    def _keep_rate_on_device(self) -> None:
        """As a captured step's trainer does."""
        optimizer, log = self.trainer.optimizer, self.tracer.log
        if isinstance(optimizer, CompactAdamW):
            rate = torch.empty((), device=self.tracer.device)
            for group in optimizer.param_groups:
                group["lr"] = rate
            return
        self.tracer.allocate_extra(4, "learning rate")
        log.free(self.tracer.allocate_extra(1, "learning rate > 0"), "learning rate > 0")

    def rewind(self) -> None:
        """Bring trainer and tracer back to where nothing was trained."""
        self.trainer.optimizer.zero_grad(set_to_none=True)
        if not isinstance(self.trainer.optimizer, CompactAdamW):  # whose state was there from the start
            self.trainer.optimizer.state.clear()
        self.trainer.scaler = copy.deepcopy(self._scaler)
        self.tracer.rewind(self._start)


@functools.lru_cache(maxsize=1)
def traced_trainer(config: Phase8Config, options: TrainingOptions, limits: Limits) -> TracedTrainer:
    """The trainer that was built last, or a new one; to be rewound before use.

    Raises: as `TracedTrainer`.
    """
    return TracedTrainer(config, options, limits)


@contextlib.contextmanager
def _optimizer_is_made(tracer: Tracer) -> Iterator[None]:
    """While the trainer is built: what its optimizer makes is state, each weight's of the weight's block."""
    make, log = Trainer._new_optimizer, tracer.log

    def marked(trainer: Trainer) -> torch.optim.Optimizer:
        with (
            replaced(log, "phase", "optimizer"),
            replaced(log, "unit", GLOBAL),
            replaced(log, "category", "optimizer"),
        ):
            return make(trainer)

    with replaced(Trainer, "_new_optimizer", marked):
        yield


@contextlib.contextmanager
def _units_of_blocks(tracer: Tracer, depth: int) -> Iterator[None]:
    """While the model is built: what is allocated after block i is registered belongs to block i + 1."""
    from torch.nn.modules.module import register_module_module_registration_hook

    def registered(module: object, name: str, submodule: object) -> None:
        if isinstance(submodule, Block):
            tracer.log.unit = min(tracer.log.unit + 1, depth - 1)

    handle = register_module_module_registration_hook(registered)
    try:
        yield
    finally:
        handle.remove()
