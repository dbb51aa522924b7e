"""Kernels and the training step on a real GPU, at real sizes: error budget, determinism, memory, capture.

With `pytest -n 8 --dist loadgroup` the kernels compile side by side; a group shares its compiled kernels.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from phase8_tune.kernels import gate
from phase8_tune.kernels.gate_draws import GateShape
from phase8_tune.kernels.gate_inputs import draw_inputs
from phase8_tune.kernels.versions import (
    CAPTURED_VERSIONS,
    KERNEL_VERSIONS,
    OPERATIONS,
    implementation,
)
from phase8_tune.phase8.capture import EAGER_CALLS
from phase8_tune.phase8.config import Phase8Config, preset
from phase8_tune.phase8.model import Checkpointing, Phase8Model, Precision
from phase8_tune.phase8.training import Trainer, TrainingOptions

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

DEVICE = torch.device("cuda")
# The preset `small` with a sequence that is no multiple of any block
SHAPE = GateShape(batch=2, n_seq=300, d_model=512, n_heads=8, htt_rank=16, vocab_size=50257)
# Rows in chunks, more than are walked over at once, the last one cut off; blocks of blocks in the rank scan
LONG = GateShape(batch=2, n_seq=70_001, d_model=40, n_heads=1)
LONG_ROWS = (
    ("bk_scan", "v2"),
    ("ar_ssm_scan", "v2"),
    ("ar_ssm_scan", "fast"),
    ("bk_gate", "fast"),
    ("rank_scan", "v2"),
)
BATCH = 4
CONFIGS = {name: preset(name, n_seq=256) for name in ("nano", "small", "medium")}
FLOAT32 = ("bk_scan", "rank_scan", "block_scalars", "spectral_norm")  # whatever the compute dtype
# The gradients of a part are one error: of a scalar alone it would be luck
PARTS = ("embedding", "blocks", "norm", "integration", "fusion")


@pytest.fixture(autouse=True)
def free_memory() -> Iterator[None]:
    yield
    release()


def release() -> None:
    """Give back what dropped trainers held: a trainer and its captured step refer to each other."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def operation_cases() -> Iterator[tuple[str, str, torch.dtype]]:
    """Every implementation once in bfloat16, those of `fast` in every dtype; scans in float32."""
    for operation in OPERATIONS:
        seen = {(implementation(operation, "reference"), dtype) for dtype in gate._FLOOR_ULPS}
        for version in KERNEL_VERSIONS[1:]:
            function = implementation(operation, version)
            dtypes = [torch.bfloat16]
            if version == "fast":
                dtypes += [torch.float16, torch.float32]
            for dtype in [torch.float32] if operation in FLOAT32 else dtypes:
                if (function, dtype) not in seen:
                    seen.add((function, dtype))
                    yield operation, version, dtype


@pytest.mark.parametrize(("operation", "version", "dtype"), list(operation_cases()))
def test_operation_keeps_its_budget_and_repeats_bitwise(
    operation: str, version: str, dtype: torch.dtype
) -> None:
    hold_to_budget(operation, version, dtype, SHAPE)


@pytest.mark.parametrize(("operation", "version"), LONG_ROWS)
def test_long_rows_keep_their_budget_and_repeat_bitwise(operation: str, version: str) -> None:
    hold_to_budget(operation, version, torch.float32, LONG)


def hold_to_budget(operation: str, version: str, dtype: torch.dtype, shape: GateShape) -> None:
    """Within the gate's budget, finite, and the same bits in three runs."""
    result = gate.check_operation(operation, version, DEVICE, dtype, (shape,), draws=2)
    assert result.ok, result.failures
    function = implementation(operation, version)
    for inputs in draw_inputs(operation, shape, dtype, seed=0):
        runs = [gate._outputs_and_gradients(function, inputs, dtype, dtype, DEVICE, 0) for _ in range(3)]
        assert all(tensor.isfinite().all() for tensor in runs[0].values())
        different = [
            name for run in runs[1:] for name, tensor in run.items() if not torch.equal(tensor, runs[0][name])
        ]
        assert not different


def new_trainer(
    model: str,
    *,
    version: str = "fast",
    precision: Precision = "bf16",
    captures: bool = True,
    learning_rate: float = 1e-3,
) -> Trainer:
    """A trainer whose step is captured after its first calls or never."""
    options = TrainingOptions(kernel_version=version, mixed_precision=precision, learning_rate=learning_rate)
    trainer = Trainer(CONFIGS[model], options, device=DEVICE)
    trainer.captures = trainer.captures and captures
    return trainer


def batches(config: Phase8Config, count: int) -> list[Tensor]:
    """Seeded random tokens [BATCH, N + 1] of `count` steps."""
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randint(config.vocab_size, (BATCH, config.n_seq + 1), generator=generator).to(DEVICE)
        for _ in range(count)
    ]


def train(trainer: Trainer, steps: int) -> tuple[Tensor, list[Tensor]]:
    """(losses [steps], copies of the weights afterwards) of a training on random tokens."""
    losses = [trainer.step(tokens) for tokens in batches(trainer.model.config, steps)]
    return torch.stack(losses).cpu(), weights(trainer)


def weights(trainer: Trainer) -> list[Tensor]:
    return [parameter.detach().cpu().clone() for parameter in trainer.model.parameters()]


def is_captured(trainer: Trainer) -> bool:
    return any(function._graph is not None for function in trainer._captured.values())


def assert_bitwise_equal(
    first: tuple[Tensor, list[Tensor]], second: tuple[Tensor, list[Tensor]], model: str
) -> None:
    assert first[0].tolist() == second[0].tolist()
    names = [name for name, _ in Phase8Model(CONFIGS[model]).named_parameters()]
    pairs = zip(names, first[1], second[1], strict=True)
    assert not [name for name, one, other in pairs if not torch.equal(one, other)]


@pytest.mark.xdist_group("small")
def test_training_from_one_seed_repeats_bitwise() -> None:
    steps = EAGER_CALLS + 2  # eager ones and replayed ones
    trainer = new_trainer("small")
    first = train(trainer, steps)
    assert is_captured(trainer)
    del trainer
    release()
    second = train(new_trainer("small"), steps)
    assert all(math.isfinite(loss) for loss in first[0].tolist())
    assert_bitwise_equal(first, second, "small")


@pytest.mark.xdist_group("nano")
@pytest.mark.parametrize("version", sorted(CAPTURED_VERSIONS))
def test_captured_steps_are_the_eager_steps(version: str) -> None:
    steps = EAGER_CALLS + 3
    trainer = new_trainer("nano", version=version)
    captured = train(trainer, steps)
    assert is_captured(trainer)
    del trainer
    release()
    trainer = new_trainer("nano", version=version, captures=False)
    eager = train(trainer, steps)
    assert not is_captured(trainer)
    assert_bitwise_equal(captured, eager, "nano")


@pytest.mark.xdist_group("nano")
@pytest.mark.parametrize("captures", [True, False], ids=["captured", "eager"])
def test_memory_does_not_grow_over_200_steps(captures: bool) -> None:
    retries = torch.cuda.memory_stats().get("num_alloc_retries", 0)
    trainer = new_trainer("nano", captures=captures)
    data = batches(trainer.model.config, 10)

    def bytes_after(steps: int) -> tuple[int, int]:
        for step in range(steps):
            trainer.step(data[step % len(data)])
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated(), torch.cuda.memory_reserved()

    after_20 = bytes_after(20)
    assert is_captured(trainer) == captures
    assert bytes_after(200) == after_20
    assert torch.cuda.memory_stats()["num_alloc_retries"] == retries


@pytest.mark.xdist_group("nano")
def test_learning_rate_reaches_a_captured_step() -> None:
    trainer = new_trainer("nano")
    tokens = batches(trainer.model.config, 1)[0]
    for _ in range(EAGER_CALLS + 2):
        trainer.step(tokens)
    assert is_captured(trainer)
    trainer.set_learning_rate(0.0)
    before = weights(trainer)
    trainer.step(tokens)
    assert all(map(torch.equal, before, weights(trainer)))
    trainer.set_learning_rate(1e-3)
    trainer.step(tokens)
    assert not all(map(torch.equal, before, weights(trainer)))


@pytest.mark.xdist_group("nano fp16")
def test_fp16_with_loss_scaling_trains_when_captured() -> None:
    trainer = new_trainer("nano", precision="fp16")
    tokens = batches(trainer.model.config, 1)[0]
    # The first steps may overflow: they are skipped, with the scale halved, and the loss stays as it is
    losses = torch.stack([trainer.step(tokens) for _ in range(10)]).tolist()
    assert is_captured(trainer)
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[EAGER_CALLS] <= losses[0]
    assert all(tensor.isfinite().all() for tensor in weights(trainer))
    assert trainer.scaler.get_scale() >= 1


def hidden_and_gradients(
    name: str,
    version: str,
    precision: Precision,
    *,
    checkpointing: Checkpointing = "none",
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Hidden states, and one vector a part with its parameters' gradients, of a preset from one seed."""
    config = CONFIGS[name]
    torch.manual_seed(0)
    model = Phase8Model(
        config, kernel_version=version, mixed_precision=precision, gradient_checkpointing=checkpointing
    ).to(DEVICE, dtype)
    tokens = batches(config, 1)[0]
    hidden = model.hidden(tokens[:, :-1])
    model.embedding.loss(hidden, tokens[:, 1:]).backward()
    named = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert len(named) == len(list(model.parameters()))
    parts = {
        part: torch.cat([g.flatten().double() for name, g in named.items() if name.startswith(part + ".")])
        for part in PARTS
    }
    assert sum(part.numel() for part in parts.values()) == config.parameter_count()
    return {"hidden": hidden.detach().double(), **parts}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.xdist_group(n)) for n in ("small", "medium")]
)
def test_model_keeps_its_budget_with_and_without_checkpointing(name: str) -> None:
    exact = hidden_and_gradients(name, "reference", "none", dtype=torch.float64)

    def errors(found: dict[str, Tensor]) -> dict[str, float]:
        return {part: float((found[part] - tensor).norm() / tensor.norm()) for part, tensor in exact.items()}

    reference = errors(hidden_and_gradients(name, "reference", "bf16"))
    ways: list[tuple[str, Checkpointing]] = [("fast", "none"), ("fast", "selective"), ("fast", "full")]
    ways += [("v1", "none"), ("v2", "none"), ("v2", "selective")]
    for version, checkpointing in ways:
        found = errors(hidden_and_gradients(name, version, "bf16", checkpointing=checkpointing))
        over = {n: (error, reference[n]) for n, error in found.items() if not error <= 2 * reference[n]}
        assert not over, f"{version} {checkpointing=}"
