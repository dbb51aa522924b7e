"""Decoding with a state of constant size: a token costs the same after ten others as after ten thousand."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ...kernels.htt_embedding.reference import expand_table, htt_embedding
from ..mixers import Block
from ..model import Phase8Model
from . import chunk, token
from .state import DecodingState
from .weights import BlockWeights, head_weights

CHUNK = 256
"""Positions that `prefill` reads at once: what bounds its memory."""


class Decoder:
    """A model that reads token by token, with the function of `Phase8Model.logits` up to rounding.

    It takes the model's weights as they are now; after the model has been trained further, make a new one.
    Memory beside the model's: the weights of the blocks and the head side once more, in the compute dtype,
    and all rows of the embedding, V·d numbers (51 MB for `small` in bfloat16), which are the reference's
    output layer and too dear to be made of the cores at each token. It computes with the reference's
    operations, whatever the model's kernel version, and without gradients.

    Source: docs/model.md, Causality: what position i reads is i, a window, or a recurrence.
    """

    @torch.no_grad()
    def __init__(self, model: Phase8Model) -> None:
        self.config = model.config
        self.dtype = model.compute_dtype
        self._embedding = model.embedding
        self.device = self._embedding.core1.device
        self.wide = torch.float64 if self.dtype == torch.float64 else torch.float32
        cores = (self._embedding.core1, self._embedding.core2, self._embedding.phase)
        table = expand_table(*cores, self.config.vocab_size, self.config.d_model)
        self._table = table.to(self.dtype)
        self._blocks = [BlockWeights.of(cast(Block, block), self.dtype) for block in model.blocks]
        self._norm = (model.norm.weight.to(self.dtype), model.norm.bias.to(self.dtype))
        self._head = head_weights(model)
        self._slots = torch.arange(self.config.window, device=self.device)

    def start(self, batch: int) -> DecodingState:
        """The state before the first token of `batch` sequences."""
        return DecodingState.start(self.config, batch, dtype=self.dtype, wide=self.wide, device=self.device)

    @torch.no_grad()
    def step(self, tokens: Tensor, state: DecodingState) -> tuple[Tensor, DecodingState]:
        """Read one token of each sequence: tokens [B] int64 → logits [B, V] of the next, and the state.

        Logits are float32 (float64 of a float64 model). The state that comes is the one given: its tensors
        are changed where they lie; `clone` keeps one.
        Raises: ValueError where n_seq positions have been read already.
        """
        self.check_room(state, 1)
        logits = self.advance(tokens, state)
        state.length += 1
        return logits, state

    @torch.no_grad()
    def prefill(self, tokens: Tensor, state: DecodingState | None = None) -> tuple[Tensor, DecodingState]:
        """Read many tokens: tokens [B, N] int64, N ≥ 1 → logits [B, V] after the last, and the state.

        Gives what N steps give up to rounding, a chunk of positions at a time. state: what was read before,
        changed as `step` does; None for nothing.
        Raises: ValueError for N = 0 or more positions than n_seq has left.
        """
        if tokens.shape[1] < 1:
            raise ValueError("tokens: expected at least one position, got none")
        state = self.start(tokens.shape[0]) if state is None else state
        self.check_room(state, tokens.shape[1])
        for part in torch.split(tokens, CHUNK, dim=1):
            h = self._read(part, state)
        return self._logits(h), state

    def capture(self, state: DecodingState) -> CapturedStep:
        """Steps of this state as one CUDA graph. Raises: ValueError where the model is on no CUDA device."""
        return CapturedStep(self, state)

    def check_room(self, state: DecodingState, count: int) -> None:
        """Raises: ValueError where the state has read so much that `count` more pass n_seq."""
        if state.length + count > self.config.n_seq:
            raise ValueError(
                f"tokens: expected at most n_seq={self.config.n_seq} positions, got {state.length + count}"
            )

    @torch.no_grad()
    def advance(self, tokens: Tensor, state: DecodingState) -> Tensor:
        """The device's part of `step`, which can be captured: all but the count of the host."""
        x = self._embedded(tokens[:, None], self._embedding.positions.index_select(0, state.position))[:, 0]
        slot = state.position % self.config.window
        hidden_slots = torch.zeros_like(self._slots, dtype=self.wide)
        hidden_slots.masked_fill_(self._slots > state.position, float("-inf"))
        for layer, weights in enumerate(self._blocks):
            x = token.block(weights, state, layer, x, slot, hidden_slots)
        u = F.layer_norm(x, x.shape[-1:], *self._norm)
        if self._head is not None:
            u = token.head(self._head, state, u)
        state.position += 1
        return self._logits(u)

    def _read(self, tokens: Tensor, state: DecodingState) -> Tensor:
        """Read a chunk; the last position's hidden state [B, d]."""
        count = tokens.shape[1]
        x = self._embedded(tokens, self._embedding.positions[state.length : state.length + count])
        for layer, weights in enumerate(self._blocks):
            x, g = chunk.block(weights, state, layer, x)
        u = F.layer_norm(x, x.shape[-1:], *self._norm)
        if self._head is not None:
            u = chunk.head(self._head, state, u, g)
        state.position += count
        state.length += count
        return u[:, -1]

    def _embedded(self, tokens: Tensor, positions: Tensor) -> Tensor:
        cores = (self._embedding.core1, self._embedding.core2, self._embedding.phase)
        return htt_embedding(tokens, *cores, positions, self.dtype)

    def _logits(self, h: Tensor) -> Tensor:
        return F.linear(h, self._table).to(self.wide)


class CapturedStep:
    """The step of one state, recorded once in a CUDA graph and launched as one: a token is some hundred
    launches otherwise, which take longer than their kernels.

    Calls are those of `Decoder.step` with this state.
    """

    def __init__(self, decoder: Decoder, state: DecodingState) -> None:
        if decoder.device.type != "cuda":
            raise ValueError(f"capture: expected a model on a CUDA device, got {decoder.device}")
        self.state = state
        self._decoder = decoder
        self._tokens = torch.zeros(state.batch, dtype=torch.int64, device=decoder.device)
        stream = torch.cuda.Stream(decoder.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # workspaces and kernels that are compiled at their first call
            decoder.advance(self._tokens, decoder.start(state.batch))
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=stream):
            self._output = decoder.advance(self._tokens, state)

    def __call__(self, tokens: Tensor) -> Tensor:
        """Read one token of each sequence: tokens [B] int64 → logits [B, V], valid until the next call.

        Raises: ValueError where n_seq positions have been read already.
        """
        self._decoder.check_room(self.state, 1)
        self._tokens.copy_(tokens)
        self._graph.replay()
        self.state.length += 1
        return self._output
