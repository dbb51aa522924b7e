"""A measurer without a device: memory and throughput from formulas, and failures on command.

For tests, and for whoever tries a strategy or a study definition without hardware.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from ..values.axes import AxisValue
from ..values.candidate import Candidate
from ..values.measurement import DeviceInfo, Measurement, Versions
from ..values.outcome import Outcome

_FAKE_DEVICE = DeviceInfo(kind="cpu", name="formula", total_bytes=64 * 2**30)
_FAKE_VERSIONS = Versions(
    phase8_tune="0", python="3", torch="0", triton=None, cuda=None, driver=None, os="none"
)
_SAVED = {"8bit": 6, "bf16_sr": 4}
"""Bytes a parameter that settings save."""
_SPEEDUP = {"reference": 1.0, "v1": 4.0, "v2": 8.0, "fast": 16.0}


def formula(candidate: Candidate) -> tuple[float, int, int]:
    """(seconds a step, peak bytes, parameters) of a candidate, shaped like the real thing.

    Memory is affine in the tokens of a step, throughput saturates in them, checkpointing trades one for the
    other.
    """
    parameters = _count(candidate, candidate.spec.parameters)
    tokens = candidate.items_per_step
    checkpointing = candidate.axes.get("gradient_checkpointing") == "full"
    token_bytes = parameters**0.5 * (20 if checkpointing else 100)
    state_bytes = 16 - sum(saved for name, saved in _SAVED.items() if name in candidate.axes.values())
    peak_bytes = int(state_bytes * parameters + token_bytes * tokens)
    work_s = tokens * parameters * 6e-13 * (1.33 if checkpointing else 1.0)
    step_s = (2e-3 + work_s) / _SPEEDUP.get(candidate.version, 1.0)
    return step_s, peak_bytes, parameters


def _count(
    candidate: Candidate, count: Callable[[str, Mapping[str, AxisValue]], int] | None, unknown: int = 0
) -> int:
    return unknown if count is None else count(candidate.model, candidate.axes)


@dataclasses.dataclass
class FormulaMeasurer:
    """A `Measurer` that computes instead of measuring.

    `outcomes` maps a candidate's digest to what its attempts end as, in order (the last one repeats); a
    candidate without an entry is ok, or out of memory where the formula says so. `before` is called with
    each candidate before its answer, and may raise or kill. `measured` lists every digest in order.
    """

    budget_bytes: int
    outcomes: Mapping[str, list[Outcome]] = dataclasses.field(default_factory=dict)
    before: Callable[[Candidate], None] = lambda candidate: None
    measured: list[str] = dataclasses.field(default_factory=list)
    device: DeviceInfo = _FAKE_DEVICE
    versions: Versions = _FAKE_VERSIONS
    is_closed: bool = False

    def measure(self, candidate: Candidate) -> Measurement:
        """What the formula or `outcomes` say of one candidate."""
        self.before(candidate)
        digest = candidate.digest()
        self.measured.append(digest)
        step_s, peak_bytes, parameters = formula(candidate)
        outcome = Outcome.OOM if peak_bytes > self.budget_bytes else Outcome.OK
        if digest in self.outcomes:
            ends = self.outcomes[digest]
            outcome = ends[min(self.measured.count(digest), len(ends)) - 1]
        is_over = outcome in (Outcome.OVER_BUDGET, Outcome.SPILLED)
        return Measurement(
            outcome=outcome,
            message=outcome.advice,
            device=self.device,
            versions=self.versions,
            parameters=parameters,
            body_parameters=parameters - _count(candidate, candidate.spec.position_parameters),
            samples_s=(step_s, step_s * 1.02, step_s * 0.98) if outcome is Outcome.OK else (),
            setup_s=0.5,
            wall_s=1.0,
            peak_bytes=self._peak_bytes(peak_bytes, is_ok=outcome is Outcome.OK, is_over=is_over),
            peak_source="formula",
        )

    def _peak_bytes(self, peak_bytes: int, *, is_ok: bool, is_over: bool) -> int | None:
        if is_ok:
            return min(peak_bytes, self.budget_bytes)
        return max(peak_bytes, self.budget_bytes + 1) if is_over else None

    def stop(self) -> None:
        """Nothing is ever under way for longer than a moment."""

    def worker_pid(self) -> int | None:
        """It has no worker."""
        return None

    def close(self) -> None:
        """Note that it was closed."""
        self.is_closed = True
