"""One curve of `loss_at_time`, in a process of its own: a model learns for a given time.

    python -m phase8_tune.benchmarks.loss_at_time_curve < request.json > curve.json

What compiles or captures is done before the clock runs, and undone: a step at a learning rate of 0 changes no
weight, and the optimizer's state is cleared. The clock stands still while the held-out loss is taken.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..tuner.training.card import HeldCard
from ..tuner.training.schedule import Schedule
from .loss_learners import Learner, Plan, largest_batch, make_learner

_SETUP_STEPS = 5  # more than any version captures or compiles in
_POINTS = 16
_HELD_OUT_TOKENS = 2**18
_HELD_OUT_ROWS = 16
_AHEAD = 2  # steps that the processor may be ahead of the card
_RATE_POINTS = 1000  # of the schedule, over the whole time


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """Held-out loss in nats a token after so much training."""

    elapsed_s: float
    steps: int
    loss: float


class Stream:
    """Random rows of a text that lies on the device, the same ones for the same seed and shape."""

    def __init__(self, tokens: Tensor, plan: Plan, batch: int) -> None:
        self._tokens, self._shape = tokens, (batch, plan.n_seq + 1)
        self._draws = torch.Generator(tokens.device).manual_seed(0)
        self._places = torch.arange(plan.n_seq + 1, device=tokens.device)

    def next(self) -> Tensor:
        """int64 [batch, n_seq + 1]."""
        last = len(self._tokens) - self._shape[1]
        starts = torch.randint(
            0, last, (self._shape[0], 1), generator=self._draws, device=self._places.device
        )
        return self._tokens[starts + self._places].long()


class Clock:
    """Seconds of training; it stands still between `stop` and `go`."""

    def __init__(self, device: torch.device) -> None:
        self._is_card = device.type == "cuda"
        self._flying: deque[torch.cuda.Event] = deque()
        self._counted_s, self._since = 0.0, time.perf_counter()

    def tick(self) -> float:
        """Seconds so far, once all steps but the last few are done."""
        if self._is_card:
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            self._flying.append(event)
            if len(self._flying) > _AHEAD:
                self._flying.popleft().synchronize()
        return self._counted_s + time.perf_counter() - self._since

    def stop(self) -> float:
        """Seconds so far, once all steps are done."""
        if self._is_card:
            torch.cuda.synchronize()
        self._counted_s += time.perf_counter() - self._since
        return self._counted_s

    def go(self) -> None:
        if self._is_card:
            torch.cuda.synchronize()
        self._since = time.perf_counter()


def held_out_loss(learner: Learner, tokens: Tensor, plan: Plan) -> float:
    """Mean nats a token over the first rows of the held-out text, on all of them where they are few."""
    length = plan.n_seq + 1
    count = min(_HELD_OUT_TOKENS // length, len(tokens) // length)
    rows = tokens[: count * length].view(count, length).long()
    per_call = min(_HELD_OUT_ROWS, count)
    whole = rows[: count // per_call * per_call]  # calls of one shape: others would compile once more
    losses = [learner.loss(part).double() for part in torch.split(whole, per_call)]
    return float(torch.stack(losses).mean())


def learn(
    plan: Plan,
    batch: int,
    peak_rate: float,
    seconds: float,
    text: Mapping[str, Tensor],
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Train for `seconds` of a clock and say what came of it. text: "train" and "held_out", on the device."""
    device = text["train"].device
    clock = clock or Clock(device)
    learner, stream = make_learner(plan, device), Stream(text["train"], plan, batch)
    learner.set_rate(0.0)
    for _ in range(_SETUP_STEPS):
        learner.step(stream.next())
    learner.forget()
    points = [Point(elapsed_s=0.0, steps=0, loss=held_out_loss(learner, text["held_out"], plan))]
    stream = Stream(text["train"], plan, batch)
    schedule = Schedule.of(peak_rate, _RATE_POINTS, _RATE_POINTS // 20)
    steps, elapsed = 0, 0.0
    clock.go()
    while elapsed < seconds and math.isfinite(points[-1].loss):
        learner.set_rate(schedule.rate(int(_RATE_POINTS * elapsed / seconds)))
        learner.step(stream.next())
        steps, elapsed = steps + 1, clock.tick()
        if elapsed >= seconds * len(points) / _POINTS:
            elapsed = clock.stop()
            loss = held_out_loss(learner, text["held_out"], plan)
            points.append(Point(elapsed_s=elapsed, steps=steps, loss=loss))
            clock.go()
    has_diverged = not math.isfinite(points[-1].loss)
    kept = points[:-1] if has_diverged else points
    return {
        "plan": plan.to_dict(),
        "parameters": plan.parameters(),
        "batch": batch,
        "peak_rate": peak_rate,
        "seconds": seconds,
        "steps": steps,
        "tokens": steps * batch * plan.n_seq,
        "tokens_per_s": steps * batch * plan.n_seq / elapsed,
        "has_diverged": has_diverged,
        "points": [asdict(point) for point in kept],
    }


def run(request: Mapping[str, Any]) -> dict[str, Any]:
    """The curve that a request asks for: plan, batch or None, peak_rate, seconds, budget_bytes, tokens."""
    plan, batch = Plan(**request["plan"]), request["batch"]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda" and request["budget_bytes"] is not None:
        HeldCard(request["budget_bytes"])
    arrays = np.load(Path(request["tokens"]))
    text = {name: torch.from_numpy(arrays[name]).to(device) for name in ("train", "held_out")}
    if batch is None:
        # Uncompiled, for which a batch is tried in a second; compiled the same step takes no more
        eager = Plan(**{**request["plan"], "kernel_version": "eager"})
        batch = min(largest_batch(eager, device), request["most_batch"] or sys.maxsize)
        if batch == 0:
            raise SystemExit(f"{plan.model} {plan.size}: not even a batch of 1 fits")
    return learn(plan, batch, request["peak_rate"], request["seconds"], text)


if __name__ == "__main__":
    print(json.dumps(run(json.load(sys.stdin))))
