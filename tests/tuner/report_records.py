"""Records as a study leaves them, for the tests of what is made from records."""

from __future__ import annotations

from typing import Any

from phase8_tune.phase8.config import preset
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.measurement import DeviceInfo, Measurement, Versions
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.record import Record

CPU = DeviceInfo(kind="cpu", name="Example CPU", total_bytes=16 * 2**30)
GPU = DeviceInfo(
    kind="cuda", name="Example GPU", total_bytes=12 * 2**30, uuid="GPU-0", compute_capability="8.6"
)
VERSIONS = Versions(
    phase8_tune="0.1.0", python="3.11.9", torch="2.13.0", triton="3.7.1", cuda=None, driver=None, os="Linux"
)
BUDGET_BYTES = 8 * 2**30


def make_candidate(**changes: Any) -> Candidate:
    """small 4×512, reference kernels, bf16, unless changed."""
    fields: dict[str, Any] = {
        "model": "small",
        "n_seq": 512,
        "batch_size": 4,
        "kernel_version": "reference",
        "gradient_checkpointing": False,
        "mixed_precision": "bf16",
    }
    return Candidate(**(fields | changes))


def make_record(
    candidate: Candidate | None = None,
    *,
    tokens_per_s: float = 1000.0,
    peak_bytes: int | None = 2 * 2**30,
    parameters: int | None = None,
    positions: int = 0,
    outcome: Outcome = Outcome.OK,
    attempt: int = 1,
    trial_number: int = 0,
    device: DeviceInfo = GPU,
    budget_bytes: int = BUDGET_BYTES,
    tainted: tuple[str, ...] = (),
) -> Record:
    """A record whose samples are all equal, so that its mean is exactly `tokens_per_s`.

    positions: parameters of the position table among `parameters`, where these are given.
    """
    candidate = candidate or make_candidate()
    ok = outcome is Outcome.OK
    if parameters is None and ok:
        config = preset(candidate.model, n_seq=candidate.n_seq, vocab_size=candidate.vocab_size)
        parameters, positions = config.parameter_count(), config.position_count
    return Record(
        digest=candidate.digest(),
        candidate=candidate.identity(),
        trial_number=trial_number,
        attempt=attempt,
        started_at=f"2026-01-01T00:{trial_number:02d}:00+00:00",
        budget_bytes=budget_bytes,
        measurement=Measurement(
            outcome=outcome,
            message="" if ok else "CUDA out of memory",
            device=device,
            versions=VERSIONS,
            parameters=parameters,
            body_parameters=None if parameters is None else parameters - positions,
            samples_s=(candidate.items_per_step / tokens_per_s,) * 5 if ok else (),
            setup_s=1.5,
            wall_s=3.0,
            peak_bytes=peak_bytes,
            peak_source="nvml" if peak_bytes else None,
            tainted=tainted,
        ),
    )
