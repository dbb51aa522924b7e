"""The published table's memory against the naive head's arithmetic: whole [tokens, vocabulary] tensors.

Source: the benchmark of the seed, sequence lengths 256 to 1024 on an 8 GB RTX 3080 Laptop; its MB are 10^6.
"""

from __future__ import annotations

import itertools

import pytest

from phase8_tune.tuner.predict.replay.program import Program
from phase8_tune.tuner.predict.trace.events import Workspaces

from .traces import CONFIG, trace_line, traced

VOCABULARY = 50257
# (copies of float32 logits alive at the peak, n_seq, {batch: peak in MB})
SMALL, MEDIUM = 5, 2
TABLE = [
    (SMALL, 256, {1: 311.65, 2: 573.87, 4: 1094.19, 8: 2138.15}),
    (SMALL, 512, {1: 574.90, 2: 1095.22, 4: 2139.17}),
    (SMALL, 1024, {1: 1097.27, 2: 2141.22}),
    (MEDIUM, 512, {1: 905.24, 2: 1108.30, 4: 1515.19}),
]


@pytest.mark.parametrize(("copies", "n_seq", "peaks"), TABLE)
def test_rows_differ_by_copies_of_the_logits(copies, n_seq, peaks):
    """About 1 MB a token for the small model, in every pair of rows."""
    formula = copies * 4 * VOCABULARY
    batches = sorted(peaks)
    for fewer, more in itertools.pairwise(batches):
        tokens = (more - fewer) * n_seq
        assert 1e6 * (peaks[more] - peaks[fewer]) / tokens == pytest.approx(formula, rel=0.03)


def test_the_reference_head_holds_three_copies():
    """Ours, backward: log-probabilities, their gradient and the logits' gradient, float32 each."""
    line = trace_line(lambda batch, depth: traced(batch=batch, depth=depth), CONFIG.n_layers)
    loss = {}
    for batch in (16, 32):
        sizes = line.at(batch)
        assert sizes is not None
        program = Program(line.structures[sizes.structure], is_captured=False)
        peaks = program.live(line.structures[sizes.structure].whole(sizes.sizes), Workspaces(0, 0))
        assert peaks.peak_phase == "backward"
        loss[batch] = peaks.by_category["loss"]
    a_token = (loss[32] - loss[16]) / (16 * CONFIG.n_seq)
    assert a_token == pytest.approx(3 * 4 * CONFIG.vocab_size, rel=0.02)
