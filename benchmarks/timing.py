"""Timing on a GPU: events around every call, medians with a confidence interval from order statistics."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

_CLOCK_HZ = 2e9  # no GPU of today counts faster: the wait is never shorter than asked for


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Median and a 95 % interval of it (order statistics) in seconds, and every sample."""

    median_s: float
    low_s: float
    high_s: float
    samples_s: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def summarise(samples_s: list[float]) -> Timing:
    """The binomial interval of the median: ranks n/2 ± 0.98·√n."""
    ordered = sorted(samples_s)
    n = len(ordered)
    spread = 0.98 * n**0.5
    low, high = max(int(n / 2 - spread), 0), min(int(n / 2 + spread), n - 1)
    return Timing(
        median_s=ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2,
        low_s=ordered[low],
        high_s=ordered[high],
        samples_s=tuple(samples_s),
    )


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def time_calls(
    function: Callable[[], object], *, warmup: int = 5, iterations: int = 20, hide_launches: bool = False
) -> list[float]:
    """Seconds of each call on the device, by CUDA events, after `warmup` calls; synchronised once at the end.

    hide_launches: the device waits before each call for as long as launching it takes, so that its kernels
    follow each other without the gaps of a slower CPU (up to what the launch queue holds). For operations,
    whose launches a captured step does not pay; a whole step is timed with its launches.
    """
    for _ in range(warmup):
        function()
    torch.cuda.synchronize()
    begin = time.perf_counter()
    function()
    wait_cycles = int(2 * (time.perf_counter() - begin) * _CLOCK_HZ)
    events = [(_event(), _event()) for _ in range(iterations)]
    torch.cuda.synchronize()
    for start, stop in events:
        if hide_launches:
            torch.cuda._sleep(wait_cycles)  # type: ignore[no-untyped-call]
        start.record()
        function()
        stop.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(stop) / 1e3 for start, stop in events]


def interleave(
    functions: dict[str, Callable[[], object]], *, rounds: int = 4, warmup: int = 5, iterations: int = 10
) -> dict[str, Timing]:
    """Device times of several functions in turns, so that a drifting clock touches all alike."""
    samples: dict[str, list[float]] = {name: [] for name in functions}
    for index in range(rounds):
        for name, function in functions.items():
            samples[name] += time_calls(
                function, warmup=warmup if index == 0 else 1, iterations=iterations, hide_launches=True
            )
    return {name: summarise(values) for name, values in samples.items()}


def ceilings() -> dict[str, float]:
    """What this GPU reaches in this run: copy bandwidth (bytes read + written) and bf16 matrix rate."""
    return {"bytes_per_s": _copy_rate(), "flop_per_s": _product_rate()}


def _copy_rate() -> float:
    source = torch.randn(1 << 28, device="cuda")
    target = torch.empty_like(source)
    return (1 << 31) / summarise(time_calls(lambda: target.copy_(source))).median_s


def _product_rate() -> float:
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * 8192**3 / summarise(time_calls(lambda: a @ b)).median_s
