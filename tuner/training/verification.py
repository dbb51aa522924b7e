"""Whether a settings file keeps its promise: its training's whole life, in processes of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..machine.environment import driver_versions, installed_version, processor_name
from ..machine.nvml import Card, open_nvml
from ..measuring.monitor import CardMonitor
from ..values.errors import DeviceError, Phase8TuneError, UserInputError
from ..workloads.settings import Measured, Predicted, TrainingSettings, Verified
from .room import PEAK_TOLERANCE

STEPS = 200
STEADY_S = 60.0
RATE_TOLERANCE = 0.03
"""Of the promised tokens/s of a measured file; a predicted one promises its interval."""
_LIFE = (sys.executable, "-m", "phase8_tune.tuner.training.life")


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What a file promised and what its training did. Each problem is a sentence; none where it held.

    peak_bytes: the most that any of the processes had of the device, seen from outside where NVML tells.
    differences: between the machine that the file is of and this one, which may explain a problem.
    """

    path: Path
    promised_tokens_per_s: tuple[float, float]
    promised_peak_bytes: int
    budget_bytes: int
    tokens_per_s: float
    peak_bytes: int
    peak_source: str
    reserved_bytes: int | None
    held_out_loss: float | None
    problems: tuple[str, ...]
    differences: tuple[str, ...]

    @property
    def held(self) -> bool:
        return not self.problems


def verify(
    path: Path,
    settings: TrainingSettings,
    *,
    data: str | None = None,
    steps: int = STEPS,
    steady_s: float = STEADY_S,
    device: Literal["auto", "cuda", "cpu"] = "auto",
) -> Verification:
    """Train as the file says: steps, evaluation, checkpoint; then read that back and train steadily.

    data: the text, None for the modules of Python's standard library, as bytes.
    Raises: UserInputError for a file without a promise; what the training raised.
    """
    promise = settings.measured or settings.predicted
    if promise is None:
        raise UserInputError(
            f"{path}: expected a recommended file, with what it promises under measured: or predicted:, "
            "got none; train with it, or verify a file of runs/*/recommended"
        )
    with tempfile.TemporaryDirectory(prefix="phase8-verify-") as folder:
        request = life_request(
            path, Path(folder), promise.budget_bytes, steps=steps, data=data, device=device
        )
        first = live(path, request)
        # Another process, which reads what the first has written and then only trains.
        later = {"steps": 10**9, "max_time_s": steady_s, "evaluate_every": 10**9, "save_every": 10**9}
        second = live(path, request | later)
    rate = second.answer["tokens_per_s"] or first.answer["tokens_per_s"]
    if rate is None:
        raise UserInputError(f"--seconds: expected time for some steady steps, got {steady_s:g}; raise it")
    highest = max((first, second), key=lambda life: life.peak_bytes)
    return _judge(path, promise, rate, highest, first.answer["held_out_loss"])


def life_request(
    settings_file: Path,
    folder: Path,
    budget_bytes: int,
    *,
    steps: int,
    data: str | None = None,
    device: Literal["auto", "cuda", "cpu"] = "auto",
) -> dict[str, Any]:
    """What a process of `live` is asked: steps, then evaluation and a checkpoint in the folder.

    data: the text, None for the modules of Python's standard library.
    """
    return {
        "settings_file": str(settings_file),
        "output": str(folder / "life.safetensors"),
        "data": [data or str(Path(sysconfig.get_paths()["stdlib"]) / "*.py")],
        "field": "text",
        "force": False,
        "tokenizer": "bytes",
        "steps": steps,
        "max_time_s": None,
        "tokens_per_update": None,
        "learning_rate": 1e-3,
        "warmup": None,
        "evaluate_every": steps,
        "save_every": steps,
        "log_every": 10,
        "device": device,
        "vram_bytes": budget_bytes,
        "reserve_bytes": None,
        "resume": True,
        "seed": None,
        "tensorboard": None,
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Life:
    """What one process said of itself, and the most that it had of the device, by whom."""

    answer: dict[str, Any]
    peak_bytes: int
    peak_source: str


def live(path: Path, request: dict[str, Any]) -> Life:
    """One process's whole life, watched from outside.

    Raises: what its session raised, as one line.
    """
    with subprocess.Popen(
        _LIFE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            with CardMonitor(_card(request["device"]), process.pid) as monitor:
                out, err = process.communicate(json.dumps(request))
        except BaseException:
            process.kill()
            raise
    seen, _ = monitor.finish()
    answer: Any = json.loads(out.strip().splitlines()[-1]) if out.strip() else {"error": _last_line(err)}
    if answer is None or "error" in answer:
        said = "it had nothing to do" if answer is None else answer["error"]
        raise _failed(process.returncode)(f"{path}: its training ended: {said}")
    peak_bytes, source = int(answer["peak_bytes"]), "the process's own account"
    if seen.process_peak_bytes:
        outside: int | None = seen.process_peak_bytes
    elif seen.device_peak_bytes is not None and seen.device_before_bytes is not None:
        outside = seen.device_peak_bytes - seen.device_before_bytes
    else:
        outside = None
    if outside is not None and answer["reserved_bytes"] is not None and outside >= peak_bytes:
        peak_bytes, source = outside, "nvml, from outside"
    return Life(answer=answer, peak_bytes=peak_bytes, peak_source=source)


def _card(device: str) -> Card | None:
    """The card that a new process would take, as far as it can be told before it does."""
    nvml = open_nvml().nvml if device != "cpu" else None
    cards = nvml.cards() if nvml is not None else ()
    return cards[0] if len(cards) == 1 else None


def _failed(code: int) -> type[Phase8TuneError]:
    return UserInputError if code == UserInputError.exit_code else DeviceError


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")


def promised_rates(promise: Measured | Predicted) -> tuple[float, float]:
    """The tokens/s between which a file is kept."""
    if isinstance(promise, Predicted):
        return promise.tokens_per_s_low, promise.tokens_per_s_high
    rate = promise.mean_tokens_per_s
    return rate * (1 - RATE_TOLERANCE), rate * (1 + RATE_TOLERANCE)


def to_verified(found: Verification, *, steps: int, steady_s: float) -> Verified:
    """What is written into the file that was verified."""
    nvml = open_nvml().nvml if found.reserved_bytes is not None else None
    names = nvml.names() if nvml is not None else ()
    return Verified(
        tokens_per_s=round(found.tokens_per_s, 3),
        peak_bytes=found.peak_bytes,
        peak_source=found.peak_source,
        held=found.held,
        device=processor_name() if found.reserved_bytes is None else ", ".join(names) or "a GPU",
        device_kind="cpu" if found.reserved_bytes is None else "cuda",
        versions=driver_versions().model_dump(),
        steps=steps,
        steady_s=steady_s,
    )


def _judge(
    path: Path,
    promise: Measured | Predicted,
    rate: float,
    life: Life,
    held_out_loss: float | None,
) -> Verification:
    low, high = promised_rates(promise)
    problems = []
    if not low <= rate <= high:
        problems.append(f"{rate:,.0f} tokens/s, where {low:,.0f} to {high:,.0f} were promised")
    if life.peak_bytes > promise.budget_bytes:
        problems.append(f"a peak of {life.peak_bytes:,} bytes is over the budget of {promise.budget_bytes:,}")
    most = promise.peak_bytes_high if isinstance(promise, Predicted) else promise.peak_bytes
    # On a CPU the promise is of the measuring process, whose modules are others than the trainer's.
    if promise.device_kind != "cpu" and life.peak_bytes > most * (1 + PEAK_TOLERANCE):
        problems.append(f"a peak of {life.peak_bytes:,} bytes, where {most:,} were promised")
    return Verification(
        path=path,
        promised_tokens_per_s=(low, high),
        promised_peak_bytes=most,
        budget_bytes=promise.budget_bytes,
        tokens_per_s=rate,
        peak_bytes=life.peak_bytes,
        peak_source=life.peak_source,
        reserved_bytes=life.answer["reserved_bytes"],
        held_out_loss=held_out_loss,
        problems=tuple(problems),
        differences=tuple(_differences(promise)),
    )


def _differences(promise: Measured | Predicted) -> list[str]:
    here = {name: installed_version(name) for name in ("torch", "triton")}
    nvml = open_nvml().nvml
    if promise.device_kind == "cuda" and nvml is not None:
        here["driver"] = nvml.driver_version()
        names = nvml.names()
        if names and promise.device not in names:
            return [f"GPU: {promise.device} in the file, {', '.join(names)} here"]
    return [
        f"{name}: {promise.versions[name]} in the file, {found} here"
        for name, found in here.items()
        if promise.versions.get(name) not in (None, found)
    ]
