"""What checkpointing and steps of several batches take on the device, and that neither changes a number."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from phase8_tune.phase8.capture import EAGER_CALLS
from phase8_tune.phase8.config import preset
from phase8_tune.phase8.model import Checkpointing
from phase8_tune.phase8.training import Trainer, TrainingOptions
from phase8_tune.tuner.workloads.trainer import take_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

CONFIG = preset("small", n_seq=256)
STEPS = 6  # some eager, some captured
TOKENS = 32 * CONFIG.n_seq


def losses_and_peak(version: str, checkpointing: Checkpointing) -> tuple[list[float], int]:
    """The losses of a few steps, and the allocator's peak of the eager ones."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    options = TrainingOptions(kernel_version=version, gradient_checkpointing=checkpointing)
    trainer = Trainer(CONFIG, options, device=torch.device("cuda"))
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(CONFIG.vocab_size, (32, CONFIG.n_seq + 1), generator=generator).cuda()
    losses = [trainer.step(tokens) for _ in range(2)]
    peak = torch.cuda.max_memory_allocated()
    losses += [trainer.step(tokens) for _ in range(STEPS - 2)]
    return torch.stack(losses).tolist(), peak


@pytest.mark.parametrize("version", ["fast", "v2"])
def test_selective_lies_between_none_and_full_and_computes_the_same(version: str) -> None:
    none, most = losses_and_peak(version, "none")
    selective, between = losses_and_peak(version, "selective")
    full, least = losses_and_peak(version, "full")
    assert none == selective == full
    product = 2 * (3 * CONFIG.d_model + 2 * CONFIG.ar_ssm_rank + CONFIG.d_model // 4)
    # Seven blocks hold their product, beside the one that is computed again
    assert between > least + 7 * product * TOKENS
    assert most > between + 7 * 4 * CONFIG.d_model * TOKENS


@pytest.mark.parametrize("options", [{}, {"optimizer_state": "8bit", "master_weights": "bf16_sr"}], ids=str)
def test_captured_parts_and_update_are_the_eager_ones(options: dict[str, Any]) -> None:
    """The update is captured in the memory of the parts, which are replayed before and after it."""
    parts, found = 2, []
    for captures in (True, False):
        trainer = Trainer(
            CONFIG, TrainingOptions(kernel_version="fast", **options), device=torch.device("cuda")
        )
        trainer.captures = captures
        generator = torch.Generator().manual_seed(0)
        losses = []
        for _ in range(EAGER_CALLS + 4):
            drawn = torch.randint(CONFIG.vocab_size, (parts, 4, CONFIG.n_seq + 1), generator=generator).cuda()
            losses.append(take_step(trainer, iter(drawn).__next__, parts))
        losses.append(trainer.evaluate(drawn[0]))
        found.append([*torch.stack(losses).tolist(), *(p.sum().item() for p in trainer.model.parameters())])
    assert found[0] == found[1]


def test_what_an_update_takes_beside_its_parts_is_gradients() -> None:
    peaks = []
    for parts in (1, 2):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        trainer = Trainer(CONFIG, TrainingOptions(kernel_version="fast"), device=torch.device("cuda"))
        tokens = torch.zeros(32, CONFIG.n_seq + 1, dtype=torch.int64, device="cuda")
        for _ in range(EAGER_CALLS + 3):
            take_step(trainer, lambda tokens=tokens: tokens, parts)  # type: ignore[misc]
        peaks.append(torch.cuda.max_memory_allocated())
        del trainer
    gradients = 4 * CONFIG.parameter_count()
    assert gradients * 0.99 <= peaks[1] - peaks[0] <= 1.05 * gradients + (4 << 20)
