"""Models that are not ours, traced without a GPU: casts, choices, events, and what cannot be followed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from phase8_tune.tuner.predict.foreign import (
    largest_batch,
    predict_training,
    training_line,
)
from phase8_tune.tuner.predict.lines import limits_of
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.predict.trace.events import FREE, Trace
from phase8_tune.tuner.predict.trace.foreign import trace_foreign
from phase8_tune.tuner.predict.trace.not_traceable import NotTraceable
from phase8_tune.tuner.workloads.training import Build, Training

WIDTH, TOKENS, VOCABULARY = 32, 16, 64
PROFILE = gpu_profile("rtx-4090")
PHASES = ("backward", "optimizer")
Loss = Callable[[nn.Module, Tensor], Tensor]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.inner(self.norm(x)).view(b, n, 3, 4, d // 4).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        result: Tensor = x + F.dropout(self.out(mixed.reshape(b, n, d)), 0.1, self.training)
        return result


class Tokens(nn.Module):
    """A transformer whose head is its embedding."""

    def __init__(self, recomputes: bool | None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.recomputes = recomputes

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            is_again = self.recomputes is not None and self.training
            x = checkpoint(block, x, use_reentrant=self.recomputes) if is_again else block(x)
        return F.linear(x, self.embedding.weight)


def cross_entropy(model: nn.Module, tokens: Tensor) -> Tensor:
    return F.cross_entropy(model(tokens).view(-1, VOCABULARY), tokens.view(-1))


def factory(
    loss: Loss = cross_entropy,
    *,
    autocast: torch.dtype | None = torch.bfloat16,
    recomputes: bool | None = None,
    optimizer: Callable[[Any], torch.optim.Optimizer] = torch.optim.AdamW,
    max_gradient_norm: float | None = None,
) -> Callable[[Build], Training]:
    def build(asked: Build) -> Training:
        with asked.device:
            model = Tokens(recomputes)
        return Training(
            modules=[model],
            batch=lambda: torch.zeros(asked.batch_size, TOKENS, dtype=torch.int64, device=asked.device),
            optimizers=[optimizer(model.parameters())],
            loss=lambda tokens: loss(model, tokens),
            autocast=autocast,
            max_gradient_norm=max_gradient_norm,
        )

    return build


def build(batch: int) -> Build:
    return Build(model="tokens", batch_size=batch, axes={}, device=torch.device("meta"))


def trace(made: Callable[[Build], Training], batch: int = 4) -> Trace:
    return trace_foreign(made, build(batch), limits_of(PROFILE), (8, 9))


def sizes(traced: Trace, operation: str) -> list[int]:
    return [event.size_bytes for event in traced.first if event.op == operation and event.size_bytes >= 0]


def test_weights_are_cast_once_a_context_and_the_loss_is_in_float32() -> None:
    """A cross entropy asks its log-softmax for the logits' own dtype; what follows is cast."""
    traced = trace(factory())
    weight = 2 * 3 * WIDTH * WIDTH
    forward = [e.size_bytes for e in traced.first if e.op == "aten._to_copy" and e.phase == "forward"]
    assert forward.count(weight) == 2
    logits = 4 * TOKENS * VOCABULARY
    assert sizes(traced, "aten._log_softmax") == [2 * logits]
    assert forward.count(4 * logits) == 1


def test_a_cast_that_is_kept_is_freed_when_the_context_ends() -> None:
    traced = trace(factory())
    made = {e.slot for e in traced.repeat if e.op == "aten._to_copy" and e.size_bytes != FREE}
    assert made <= {e.slot for e in traced.repeat if e.size_bytes == FREE}


@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
def test_clipping_is_traced_between_the_backward_pass_and_the_optimizer(autocast: torch.dtype) -> None:
    """One norm of each gradient, their sum, and the factor; nothing of it stays."""
    plain, clipped = (trace(factory(autocast=autocast, max_gradient_norm=norm)) for norm in (None, 1.0))
    gradients = 2 * 6 + 1  # of two blocks, and the embedding
    norms = [e for e in clipped.repeat if "foreach_norm" in e.op and e.size_bytes != FREE]
    assert [e.size_bytes for e in norms] == [4] * gradients
    assert not [e for e in plain.repeat if "foreach_norm" in e.op]
    made = {e.slot for e in clipped.repeat if e.size_bytes != FREE}
    freed = {e.slot for e in clipped.repeat if e.size_bytes == FREE}
    assert made <= freed
    places = {phase: [n for n, e in enumerate(clipped.repeat) if e.phase == phase] for phase in PHASES}
    assert max(places["backward"]) < clipped.repeat.index(norms[0]) < min(places["optimizer"])


def test_dropout_keeps_a_mask_of_bytes() -> None:
    elements = 4 * TOKENS * WIDTH
    assert sizes(trace(factory()), "aten.native_dropout") == [2 * elements, elements] * 2


@pytest.mark.parametrize("recomputes", [True, False])
@pytest.mark.parametrize("autocast", [torch.float16, torch.bfloat16, None])
def test_what_is_computed_again_is_cast_again(recomputes: bool, autocast: torch.dtype | None) -> None:
    traced = trace(factory(autocast=autocast, recomputes=recomputes))
    elements = 4 * TOKENS * WIDTH
    item = 4 if autocast is None else 2
    # twice a block: going forward, and again going back
    assert sizes(traced, "aten.native_dropout") == [item * elements, elements] * 4


@pytest.mark.parametrize(
    ("optimizer", "temporaries"),
    [
        (lambda p: torch.optim.AdamW(p, fused=True), 0),
        (lambda p: torch.optim.AdamW(p, foreach=True), 1),
        (lambda p: torch.optim.SGD(p, lr=0.1), 0),
    ],
)
def test_lists_of_temporaries_are_foreach_s(optimizer: Any, temporaries: int) -> None:
    traced = trace(factory(optimizer=optimizer))
    roots = [event for event in traced.repeat if event.op == "aten._foreach_sqrt" and event.size_bytes > 0]
    assert bool(roots) is bool(temporaries)


def test_a_second_step_frees_what_it_makes() -> None:
    traced = trace(factory())
    made = {event.slot for event in traced.repeat if event.size_bytes >= 0}
    assert made <= {event.slot for event in traced.repeat if event.size_bytes == FREE}


def test_positions_that_follow_from_no_data_may_be_asked() -> None:
    def loss(model: nn.Module, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        steps = positions.diff()
        assert bool((steps == 1).all()), "positions follow one another"
        return cross_entropy(model, tokens)

    assert trace(factory(loss)).first


def asks_for_data(model: nn.Module, tokens: Tensor) -> Tensor:
    found = cross_entropy(model, tokens)
    return found * 2 if found.item() > 1 else found


def shapes_by_data(model: nn.Module, tokens: Tensor) -> Tensor:
    return model(tokens)[tokens > 0].sum()  # type: ignore[no-any-return]


def compiles(model: nn.Module, tokens: Tensor) -> Tensor:
    return torch.compile(model)(tokens).sum()  # type: ignore[no-any-return]


_WAS_COMPILED = torch.compile(lambda x: x * 2)


def was_compiled(model: nn.Module, tokens: Tensor) -> Tensor:
    return _WAS_COMPILED(model(tokens)).sum()  # type: ignore[no-any-return]


@pytest.mark.parametrize("loss", [asks_for_data, shapes_by_data, compiles, was_compiled])
def test_what_cannot_be_followed_names_the_line(loss: Loss) -> None:
    with pytest.raises(NotTraceable) as caught:
        trace(factory(loss))
    line = loss.__code__.co_firstlineno
    assert "test_foreign.py" in caught.value.place
    assert line < int(caught.value.place.rpartition(":")[2]) <= line + 3
    assert "\n" not in str(caught.value)


def test_a_recurrent_layer_has_no_forecast() -> None:
    def loss(model: nn.Module, tokens: Tensor) -> Tensor:
        with tokens.device:
            layer = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        return layer(torch.ones(2, 3, WIDTH, device=tokens.device))[0].sum()  # type: ignore[no-any-return]

    with pytest.raises(NotTraceable, match="recurrent"):
        trace(factory(loss))


def test_all_batches_follow_from_three() -> None:
    line = training_line(factory(), build, PROFILE)
    largest = largest_batch(line, range(1, 4097), PROFILE, 300 << 20)
    assert 1 < largest < 4096
    for batch, fits in ((largest, True), (largest + 1, False)):
        assert predict_training(factory(), build, PROFILE, 300 << 20, batch).fits is fits


def test_nothing_is_left_behind() -> None:
    before = F.scaled_dot_product_attention, torch.compile, torch.nn.Module.compile
    trace(factory())
    assert (F.scaled_dot_product_attention, torch.compile, torch.nn.Module.compile) == before
    with pytest.warns(UserWarning, match="CUDA is not available"), torch.autocast("cuda"):
        assert not torch.is_autocast_enabled("cuda")
    q = torch.ones(1, 1, 4, 8, device="meta")
    assert F.scaled_dot_product_attention(q, q, q).shape == q.shape
