"""What the prediction benchmark measures: random configurations, a training run of each, counted by torch."""

from __future__ import annotations

import gc
import random
import time
from typing import NamedTuple

import torch

from ..kernels.versions import KERNEL_VERSIONS
from ..phase8.config import preset
from ..phase8.training import Trainer
from ..tuner.builtin.phase8.options import options_of
from ..tuner.values.candidate import Candidate
from .drawn_models import MODELS
from .quiet_core import timed_blocks

SEQUENCES = (256, 512, 1024, 2048, 4096)
BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
STEPS = 5
"""A captured version's fifth replays its graph; an eager one takes no more memory after its fourth."""


class Task(NamedTuple):
    """A training run under a cap on what torch reserves; None: without one."""

    candidate: Candidate
    cap_bytes: int | None = None


class MeasuredPeaks(NamedTuple):
    """torch's peaks; and the card's, when torch's reserved bytes are at theirs: what NVML counts more at the
    end than before the process used the card, and what torch has given back since its peak."""

    allocated_bytes: int
    reserved_bytes: int
    card_bytes: int


def draw(count: int, seed: int, *, saves: bool = False) -> list[Candidate]:
    """`count` different random configurations, all presets and versions equally often.

    saves: the same with random settings that save memory, of which one at least does.
    """
    chance = random.Random(seed)
    drawn: dict[str, Candidate] = {}
    while len(drawn) < count:
        number = len(drawn)
        candidate = Candidate(
            model=MODELS[number % len(MODELS)],
            n_seq=chance.choice(SEQUENCES),
            batch_size=chance.choice(BATCHES),
            kernel_version=KERNEL_VERSIONS[(number // len(MODELS)) % len(KERNEL_VERSIONS)],
            gradient_checkpointing=chance.random() < 0.5,
            mixed_precision=chance.choice(("bf16", "bf16", "fp16")),
        )
        drawn[candidate.digest()] = candidate
    cases = list(drawn.values())
    chance.shuffle(cases)
    return [_saving(case, random.Random(f"{seed} {case.digest()}")) for case in cases] if saves else cases


def _saving(case: Candidate, chance: random.Random) -> Candidate:
    state, weights = chance.choice((("8bit", "fp32"), ("fp32", "bf16_sr"), ("8bit", "bf16_sr")))
    checkpointing = chance.choice(("none", "selective", "full"))
    return case.changed(optimizer_state=state, master_weights=weights, gradient_checkpointing=checkpointing)


def peaks_of(task: Task) -> MeasuredPeaks | None:
    """Train some steps in this process, which has not used the GPU before; None where the cap is too low.

    What NVML counts is right only while no other program on the card moves.
    """
    from ..tuner.machine.nvml import open_nvml

    nvml = open_nvml().nvml
    if nvml is None:
        raise RuntimeError("NVML is not here")
    card = nvml.cards()[0]
    before = card.memory()
    if task.cap_bytes is not None:
        total = torch.cuda.mem_get_info()[1]
        torch.cuda.set_per_process_memory_fraction(task.cap_bytes / total)
    try:
        trainer, tokens = prepare(task.candidate)
        for _ in range(STEPS):
            trainer.step(tokens)
    except torch.OutOfMemoryError:
        return None
    torch.cuda.synchronize()
    after = card.memory()
    if before is None or after is None:
        raise RuntimeError("NVML does not tell the card's memory")
    given_back = torch.cuda.max_memory_reserved() - torch.cuda.memory_reserved()
    return MeasuredPeaks(
        allocated_bytes=torch.cuda.max_memory_allocated(),
        reserved_bytes=torch.cuda.max_memory_reserved(),
        card_bytes=after.used_bytes - before.used_bytes + given_back,
    )


def step_blocks(candidate: Candidate) -> list[list[float]]:
    """Seconds of steps in this process, as `quiet_core` times them."""
    trainer, tokens = prepare(candidate)

    def step() -> float:
        torch.cuda.synchronize()
        start = time.perf_counter()
        trainer.step(tokens)
        torch.cuda.synchronize()
        return time.perf_counter() - start

    for _ in range(trainer.setup_calls + 1):
        step()
    return timed_blocks(step)


def clean() -> None:
    """Give everything back."""
    gc.collect()
    torch.cuda.synchronize()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()


def prepare(candidate: Candidate) -> tuple[Trainer, torch.Tensor]:
    """The trainer on the device and a batch of random tokens."""
    config = preset(candidate.model, n_seq=candidate.n_seq)
    trainer = Trainer(config, options_of(candidate), device=torch.device("cuda"))
    tokens = torch.randint(0, config.vocab_size, (candidate.batch_size, candidate.n_seq + 1))
    return trainer, tokens.to("cuda")


def compile_kernels(candidate: Candidate) -> None:
    """One step in another process, so that the kernels are on disk when they are measured."""
    try:
        trainer, tokens = prepare(candidate)
        trainer.step(tokens)
        del trainer, tokens
    except torch.OutOfMemoryError:
        pass  # its kernels were compiled up to there
    finally:
        clean()
