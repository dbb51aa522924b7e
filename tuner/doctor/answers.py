"""What the doctor's child processes answer: one JSON object each, strict, unknown keys refused."""

from __future__ import annotations

from ..values.measurement import Border, DeviceInfo


class TorchAnswer(Border):
    """What torch found. `device` is the first visible card, None without one; `reason` then says why.

    `failure` is why a small product on the card did not run, empty where it did. `fitted_shared_memory_bytes`
    is what our kernels are fitted to, a block; None where Triton cannot be imported.
    """

    torch: str
    cuda: str | None
    device: DeviceInfo | None = None
    free_bytes: int | None = None
    reason: str = ""
    failure: str = ""
    fitted_shared_memory_bytes: int | None = None


class TritonAnswer(Border):
    """A kernel was compiled and run: how long that took, and whether the sum it computed was right."""

    triton: str
    first_call_s: float
    is_right: bool


class SegmentsAnswer(Border):
    """Whether torch's allocator made an expandable segment when it was asked for them."""

    is_expandable: bool
    warning: str = ""


class FailedAnswer(Border):
    """The probe raised: the exception's type and the first line of its text."""

    error: str


class Tried(Border):
    """One thing that a workload was asked for. is_ok: None where it is neither right nor wrong."""

    what: str
    is_ok: bool | None
    told: str


class WorkloadAnswer(Border):
    """What came of trying a workload, in order; nothing after what does not work at all."""

    tried: tuple[Tried, ...]
