"""The whole model, loss and every gradient, in each version: within the error budget of the operations."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from phase8_tune.kernels.gate import poisoned_memory
from phase8_tune.kernels.versions import KERNEL_VERSIONS
from phase8_tune.phase8.config import Phase8Config
from phase8_tune.phase8.model import Checkpointing, Phase8Model, Precision

CONFIG = Phase8Config(
    d_model=32, n_layers=2, n_heads=2, n_seq=21, htt_rank=4, window=16, vocab_size=300, ar_ssm_rank=16
)
ABLATION = {"layer_norm": "fast", "norm_potential": "fast", "mix_norm": "fast"}  # a choice by operation
# The gradients of a part are one error, pooled over draws: of a scalar alone it would be luck
PARTS = ("embedding", "blocks.0", "blocks.1", "norm", "integration", "fusion")
DRAWS: dict[Precision, int] = {
    "none": 3,
    "fp16": 1,
}  # float32 errors of version and reference are alike: more luck


def loss_and_gradients(
    version: str | Mapping[str, str],
    precision: Precision,
    draw: int,
    device: torch.device,
    dtype: torch.dtype,
    checkpointing: Checkpointing = "none",
) -> dict[str, Tensor]:
    """The loss, and one vector a part with its parameters' gradients, of a model with weights in `dtype`."""
    torch.manual_seed(draw)
    model = Phase8Model(
        CONFIG,
        kernel_version=version,  # type: ignore[arg-type]
        mixed_precision=precision,
        gradient_checkpointing=checkpointing,
    )
    with torch.no_grad():
        for parameter in model.parameters():  # away from the starting values: no weight is 0 or 1 any more
            parameter.add_(torch.randn(parameter.shape), alpha=0.05)
    tokens = torch.randint(CONFIG.vocab_size, (1, CONFIG.n_seq + 1)).to(device)
    model = model.to(device, dtype)
    loss = model(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert len(gradients) == len(list(model.parameters()))
    parts = {
        part: torch.cat([grad.flatten() for name, grad in gradients.items() if name.startswith(part + ".")])
        for part in PARTS
    }
    assert sum(part.numel() for part in parts.values()) == sum(p.numel() for p in model.parameters())
    return {"loss": loss.detach().view(1), **parts}


def pooled_errors(
    version: str | Mapping[str, str], precision: Precision, device: torch.device
) -> dict[str, float]:
    """‖x − exact‖ / ‖exact‖ over the draws, of the loss and of every part's gradients."""
    squares, norms = dict.fromkeys(("loss", *PARTS), 0.0), dict.fromkeys(("loss", *PARTS), 0.0)
    for draw in range(DRAWS[precision]):
        exact = exact_results(draw, device)
        got = loss_and_gradients(version, precision, draw, device, torch.float32)
        for name, tensor in exact.items():
            squares[name] += (got[name].double() - tensor).square().sum().item()
            norms[name] += tensor.square().sum().item()
    return {name: math.sqrt(squares[name] / norms[name]) for name in squares}


@functools.cache
def exact_results(draw: int, device: torch.device) -> dict[str, Tensor]:
    return loss_and_gradients("reference", "none", draw, device, torch.float64)


@functools.cache
def reference_errors(precision: Precision, device: torch.device) -> dict[str, float]:
    return pooled_errors("reference", precision, device)


@pytest.mark.parametrize("precision", ["none", "fp16"])
@pytest.mark.parametrize("version", [*KERNEL_VERSIONS[1:], ABLATION], ids=str)
def test_loss_and_gradients_are_within_the_budget(
    version: str | Mapping[str, str], precision: Precision, device: torch.device
) -> None:
    budget = reference_errors(precision, device)
    with poisoned_memory():
        errors = pooled_errors(version, precision, device)
    floor = 2 * torch.finfo(torch.float32).eps  # the loss is one number: the reference's may be right by luck
    over = {
        name: (error, budget[name])
        for name, error in errors.items()
        if not error <= max(2 * budget[name], floor)
    }
    assert not over


def test_what_is_computed_again_changes_no_bit(device: torch.device) -> None:
    ways: list[Checkpointing] = ["none", "selective", "full"]
    plain, *others = (
        loss_and_gradients("fast", "fp16", 0, device, torch.float32, checkpointing) for checkpointing in ways
    )
    for found in others:
        assert all(torch.equal(found[name], tensor) for name, tensor in plain.items())
