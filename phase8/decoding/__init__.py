"""Decoding token by token: a model with a state of constant size, and how tokens are drawn from its logits.

decoder = Decoder(model)
logits, state = decoder.prefill(prompt)
logits, state = decoder.step(sample(logits, top_p=0.9), state)
"""

from __future__ import annotations

from .decoder import CapturedStep, Decoder
from .sampling import generate, room_after, sample
from .state import DecodingState

__all__ = ["CapturedStep", "Decoder", "DecodingState", "generate", "room_after", "sample"]
