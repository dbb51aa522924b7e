"""The fast embedding is version 2: one kernel forward, and a backward without a long program."""

from .v2 import htt_embedding, scratch_bytes

__all__ = ["htt_embedding", "scratch_bytes"]
