"""What checkpointing takes on the device, and that it changes no number."""

from __future__ import annotations

import pytest
import torch

from phase8_tune.phase8.config import preset
from phase8_tune.phase8.model import Checkpointing
from phase8_tune.phase8.training import Trainer, TrainingOptions

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
