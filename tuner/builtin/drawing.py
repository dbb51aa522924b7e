"""How a token is drawn from logits, and how many may follow a prompt: the same of every model of tokens."""

from __future__ import annotations

from ...phase8.decoding import room_after, sample

__all__ = ["room_after", "sample"]
