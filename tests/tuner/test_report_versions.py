"""Kernel versions side by side, and those that lost, in the report."""

from __future__ import annotations

from phase8_tune.tuner.records.frontier import to_points
from phase8_tune.tuner.records.results import Results
from phase8_tune.tuner.records.versions import side_by_side
from phase8_tune.tuner.report.markdown import render_report
from phase8_tune.tuner.report.versions import versions_section
from phase8_tune.tuner.values.record import Record

from .report_records import make_candidate, make_record
from .test_report import make_facts

GB = 2**30


def measured(model: str, n_seq: int, version: str, rate: float, batch: int = 4) -> Record:
    candidate = make_candidate(model=model, n_seq=n_seq, kernel_version=version, batch_size=batch)
    return make_record(candidate, tokens_per_s=rate, peak_bytes=batch * GB)


def test_each_version_stands_with_its_best_of_the_cell_where_most_were_measured() -> None:
    records = [
        measured("small", 256, "fast", 1000.0),
        measured("small", 256, "v2", 250.0, batch=1),
        measured("small", 256, "v2", 200.0, batch=2),
        measured("small", 256, "reference", 10.0),
        measured("small", 512, "fast", 5000.0),
        measured("small", 512, "v2", 4000.0),
        measured("nano", 256, "fast", 9000.0),
    ]
    heading, *rows = versions_section(to_points(records)).rows
    assert heading[2:6] == ("Kernels", "Batch", "Tokens/s", "Share of the best")
    assert rows == [
        ("small", "256", "fast", "4", "1,000 (±0)", "100.0 %", "4,096.00"),
        ("small", "256", "v2", "1", "250 (±0)", "25.0 %", "1,024.00"),
        ("small", "256", "reference", "4", "10.0 (±0.0)", "1.0 %", "4,096.00"),
    ]


def test_a_version_that_lost_in_three_models_is_named_with_its_best_shares() -> None:
    records = [
        measured(model, n_seq, version, rate)
        for model, share in (("small", 0.9), ("nano", 0.5), ("medium", 0.8))
        for n_seq, more in ((256, 1.0), (512, 0.5))
        for version, rate in (("fast", 1000.0), ("v1", 1000.0 * share * more))
    ]
    report = render_report(Results.of(records), make_facts())
    (line,) = (line for line in report.splitlines() if line.startswith("- `v1` lost"))
    assert line.endswith("model and sequence: nano 50.0 %, small 90.0 %, medium 80.0 %")
    for close in (measured("medium", 1024, "v1", 960.0), measured("medium", 1024, "fast", 1000.0)):
        records.append(close)
    assert "` lost" not in render_report(Results.of(records), make_facts())


def test_one_version_alone_makes_no_table() -> None:
    assert side_by_side(to_points([measured("small", 256, "fast", 1.0)])) == []
    assert "side by side" not in render_report(Results.of([measured("nano", 256, "v1", 1.0)]), make_facts())
