"""How a line of Phase 8 is traced: block by block, from the batch on at which all sizes are straight."""

from __future__ import annotations

from ....kernels.versions import CAPTURED_VERSIONS, UnsupportedVersionError
from ...predict.fit.line import FIT_BATCHES
from ...predict.lines import LineKey
from ...predict.trace.events import Trace
from ...predict.traced_line import BlockTracing
from ...values.errors import UserInputError
from .options import options_of
from .settings import config_of
from .tracing import trace_training

BENDS_UNTIL_TOKENS = 32 * 1024
"""From so many tokens a batch on the head's chunks have their full size (kernels/htt_cross_entropy/plan.py:
CHUNK_BYTES at CHUNK_BYTES_PER_TOKEN), so that all sizes are straight; a test holds them equal."""
_TOKEN_BYTES = 8


def tracing_of(key: LineKey) -> BlockTracing:
    """How a line is traced.

    Its tracing raises UserInputError where the kernel version does not take the model.
    """
    config, options = config_of(key), options_of(key)

    def tracing(batch: int, depth: int) -> Trace:
        try:
            return trace_training(
                config,
                options,
                batch_size=batch,
                limits=key.limits,
                mode=key.mode,
                depth=depth,
                parts=key.gradient_accumulation,
            )
        except UnsupportedVersionError as error:  # for a size of the user's own: presets are taken by all
            raise UserInputError(f"{key.model} with kernels {key.kernel_version}: {error}") from None

    return BlockTracing(
        tracing=tracing,
        depth=config.n_layers,
        is_captured=key.kernel_version in CAPTURED_VERSIONS,
        first_fit=max(-(-BENDS_UNTIL_TOKENS // key.n_seq), FIT_BATCHES[0]),
        input_bytes=lambda batch: _TOKEN_BYTES * batch * (key.n_seq + 1),
    )
