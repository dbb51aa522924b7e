"""What the driver and its worker say to each other: one JSON object a line, strict, unknown keys refused.

The driver writes requests to the worker's standard input; the worker writes replies to a private copy of its
standard output. A line that is not a reply is a failure of the worker, never of the driver.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from ..values.measurement import Border, DeviceInfo, KernelCheck, Measurement, Versions
from ..values.outcome import Outcome

MAX_LINE_BYTES = 1 << 20  # a result with some hundred samples has about 10 KB


class StartRequest(Border):
    """The first line: which device the worker is for. The worker answers with `Ready`."""

    type: Literal["start"] = "start"
    device: Literal["cuda", "cpu"]


class CheckRequest(Border):
    """Check what a candidate's kernel version computes, before it is timed for the first time."""

    type: Literal["check"] = "check"
    id: int
    candidate: dict[str, Any]


class MeasureRequest(Border):
    """Measure one candidate.

    On CUDA the allocator is capped at `budget_bytes` less `reserve_bytes` and less `held_bytes`, what the
    idle worker has of the card already (its context and what libraries keep).
    """

    type: Literal["measure"] = "measure"
    id: int
    candidate: dict[str, Any]
    warmup: int
    iterations: int
    seed: int
    budget_bytes: int
    reserve_bytes: int
    held_bytes: int = 0


class Ready(Border):
    """The worker has its device. `context_bytes` is what the bare CUDA context takes (None on a CPU)."""

    type: Literal["ready"] = "ready"
    pid: int
    device: DeviceInfo
    versions: Versions
    context_bytes: int | None = None
    context_source: str | None = None


class Progress(Border):
    """A phase of the measurement begins; the driver reads the energy counter around "timed"."""

    type: Literal["progress"] = "progress"
    id: int
    phase: Literal["setup", "warmup", "timed", "finished"]


class CudaMemory(Border):
    """What the worker knows of its memory on the card.

    `device_before_bytes` and `device_peak_bytes` are the whole card's use by cudaMemGetInfo before the
    attempt and at its largest after an iteration.
    """

    kind: Literal["cuda"] = "cuda"
    context_bytes: int
    context_source: str
    reserved_peak_bytes: int
    device_before_bytes: int | None = None
    device_peak_bytes: int | None = None


class HostMemory(Border):
    """What the operating system counted of the worker's memory before and during the attempt."""

    kind: Literal["cpu"] = "cpu"
    before_bytes: int
    peak_bytes: int
    source: str


class Result(Border):
    """The answer to a `MeasureRequest`.

    `replace` is why this worker must not be used again, None where it may. The measurement's ledger, peak and
    telemetry are filled in by the driver, who has seen the card from outside.
    """

    type: Literal["result"] = "result"
    id: int
    measurement: Measurement
    memory: Annotated[CudaMemory | HostMemory, Field(discriminator="kind")] | None = None
    replace: str | None = None


class Checked(Border):
    """The answer to a `CheckRequest`.

    `outcome` is OK where the version passed, WRONG_RESULT where it did not, with the numbers in `message`,
    and else what kept the check from its end. `check` is None then, and where the workload has none.
    """

    type: Literal["checked"] = "checked"
    id: int
    outcome: Outcome
    message: str = ""
    check: KernelCheck | None = None


class Failed(Border):
    """The worker could not get its device."""

    type: Literal["failed"] = "failed"
    message: str


Request = StartRequest | CheckRequest | MeasureRequest
Reply = Ready | Progress | Checked | Result | Failed
_REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="type")])
_REPLY: TypeAdapter[Reply] = TypeAdapter(Annotated[Reply, Field(discriminator="type")])


class ProtocolError(ValueError):
    """A line is not a message; the text quotes its beginning."""


def encode(message: Request | Reply) -> bytes:
    """The message as one line, newline included."""
    return message.model_dump_json().encode() + b"\n"


def decode_request(line: bytes) -> Request:
    """Raises: ProtocolError."""
    try:
        return _REQUEST.validate_json(line)
    except ValidationError as error:
        raise ProtocolError(_explain("a request", line, error)) from error


def decode_reply(line: bytes) -> Reply:
    """Raises: ProtocolError."""
    try:
        return _REPLY.validate_json(line)
    except ValidationError as error:
        raise ProtocolError(_explain("a reply", line, error)) from error


def _explain(expected: str, line: bytes, error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    begin = line[:80].decode(errors="replace").strip()
    return f"expected {expected}, got {begin!r} ({where + ': ' if where else ''}{first['msg']})"
