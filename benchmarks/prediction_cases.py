"""What the prediction benchmark measures: random configurations, a training run of each, counted by torch."""

from __future__ import annotations

import gc
import random
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from ..kernels.versions import KERNEL_VERSIONS
from ..phase8.config import PRESETS, preset
from ..phase8.training import Trainer, TrainingOptions
from ..tuner.candidate import Candidate

SEQUENCES = (256, 512, 1024, 2048, 4096)
BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
STEPS = 5
"""A captured version's fifth replays its graph; an eager one takes no more memory after its fourth."""
TIMED_STEPS, TIMED_S = 5, 1.5
"""At least so many steps, and more until they took this long: short ones vary with the host."""


def draw(count: int, seed: int) -> list[Candidate]:
    """`count` different random configurations, all presets and versions equally often."""
    chance = random.Random(seed)
    drawn: dict[str, Candidate] = {}
    while len(drawn) < count:
        number = len(drawn)
        candidate = Candidate(
            model=PRESETS[number % len(PRESETS)],
            n_seq=chance.choice(SEQUENCES),
            batch_size=chance.choice(BATCHES),
            kernel_version=KERNEL_VERSIONS[(number // len(PRESETS)) % len(KERNEL_VERSIONS)],
            gradient_checkpointing=chance.random() < 0.5,
            mixed_precision=chance.choice(("bf16", "bf16", "fp16")),
        )
        drawn[candidate.digest()] = candidate
    cases = list(drawn.values())
    chance.shuffle(cases)
    return cases


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What one configuration took: torch's peaks and its timed steps."""

    allocated_bytes: int
    reserved_bytes: int
    samples_s: list[float]
    seconds: float

    @property
    def step_s(self) -> float:
        """The median of its steps."""
        return statistics.median(self.samples_s)


def clean() -> int:
    """Give everything back; returns what torch still counts as allocated."""
    gc.collect()
    torch.cuda.synchronize()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def options_of(candidate: Candidate) -> TrainingOptions:
    return TrainingOptions(
        kernel_version=candidate.kernel_version,
        gradient_checkpointing=candidate.gradient_checkpointing,
        mixed_precision=candidate.mixed_precision,
    )


def run(candidate: Candidate, *, timed: bool = True) -> Run:
    """Train some steps in this process, in a clean allocator.

    Raises: torch.OutOfMemoryError under a cap.
    """
    started = time.perf_counter()
    left = clean()
    allocated, reserved, samples_s = _train(candidate, timed)
    clean()
    return Run(
        allocated_bytes=allocated - left,
        reserved_bytes=reserved,
        samples_s=samples_s,
        seconds=time.perf_counter() - started,
    )


def _train(candidate: Candidate, timed: bool) -> tuple[int, int, list[float]]:
    """Peaks of allocated and reserved bytes, and steps' seconds; nothing is left on the device."""
    trainer, tokens = prepare(candidate)
    for _ in range(STEPS):
        trainer.step(tokens)
    torch.cuda.synchronize()
    peaks = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    samples_s: list[float] = []
    while timed and (len(samples_s) < TIMED_STEPS or sum(samples_s) < TIMED_S):
        samples_s.append(_step_s(trainer, tokens))
    return *peaks, samples_s


def prepare(candidate: Candidate) -> tuple[Trainer, torch.Tensor]:
    """The trainer on the device and a batch of random tokens."""
    config = preset(candidate.model, n_seq=candidate.n_seq)
    trainer = Trainer(config, options_of(candidate), device=torch.device("cuda"))
    tokens = torch.randint(0, config.vocab_size, (candidate.batch_size, candidate.n_seq + 1))
    return trainer, tokens.to("cuda")


def _step_s(trainer: Trainer, tokens: torch.Tensor) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    trainer.step(tokens)
    torch.cuda.synchronize()
    return time.perf_counter() - start


def fits_under(candidate: Candidate, cap_bytes: int) -> bool:
    """Whether the steps run with torch's allocator capped."""
    total = torch.cuda.mem_get_info()[1]
    clean()
    torch.cuda.set_per_process_memory_fraction(cap_bytes / total)
    try:
        run(candidate, timed=False)
    except torch.OutOfMemoryError:
        return False
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        clean()
    return True


def compile_kernels(candidate: Candidate) -> str:
    """One step in a process of its own, so that the kernels are on disk when they are measured."""
    try:
        run(candidate, timed=False)
    except torch.OutOfMemoryError:
        return "out of memory"  # its kernels were compiled up to there
    return "compiled"


def process_peak_bytes(fields: dict[str, Any]) -> tuple[int, int]:
    """(bytes of the card in use, as NVML counts them; torch's reserved peak) after a run in a new process.

    The card's use before the CUDA context is subtracted; another program must not move meanwhile.
    """
    from ..tuner.nvml import open_nvml

    nvml = open_nvml().nvml
    if nvml is None:
        raise RuntimeError("NVML is not here")
    card = nvml.cards()[0]
    before = card.memory()
    trainer, tokens = prepare(Candidate.from_dict(fields))
    for _ in range(STEPS):
        trainer.step(tokens)
    torch.cuda.synchronize()
    after = card.memory()
    if before is None or after is None:
        raise RuntimeError("NVML does not tell the card's memory")
    # Segments are kept until they are asked for: what is reserved now is the peak, but under a cap
    return after.used_bytes - before.used_bytes, torch.cuda.max_memory_reserved()
