"""What a report says of an optimizer with a small state."""

from __future__ import annotations

from phase8_tune.tuner.records.results import Results
from phase8_tune.tuner.report.markdown import render_report

from .report_records import make_candidate, make_record
from .test_report import make_facts, section


def test_what_a_small_state_gains_is_said_cell_by_cell() -> None:
    plain = [make_record(make_candidate(n_seq=256))]
    assert "small state" not in render_report(Results.of(plain), make_facts())
    rates = {
        ("fp32", 256): 1000.0,
        ("8bit", 256): 1250.0,
        ("fp32", 512): 900.0,
        ("8bit", 512): 891.0,
        ("8bit", 1024): 700.0,
    }
    found = [
        make_record(
            make_candidate(n_seq=n_seq, optimizer_state=state), tokens_per_s=rate, trial_number=number
        )
        for number, ((state, n_seq), rate) in enumerate(rates.items())
    ]
    told = section(render_report(Results.of(found), make_facts()), "### What a small state gains")
    assert "**small, train**: 1,250" in told
    assert "25.0% faster than the fastest without;" in told
    assert "1.0% slower than the fastest without with batch 4, sequence 512" in told
    assert "8bit optimizer state, where nothing else that was tried fits" in told
