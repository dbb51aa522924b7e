"""The report: the seed's sections, out-of-memory rows, and findings that are true of the records."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from phase8_tune.tuner.builtin.phase8.spec import SPEC
from phase8_tune.tuner.goals.goals import Goal
from phase8_tune.tuner.records.frontier import find_frontier, to_points
from phase8_tune.tuner.records.results import Results
from phase8_tune.tuner.report.facts import RunFacts, format_rate
from phase8_tune.tuner.report.findings import comparison_findings, memory_findings, throughput_findings
from phase8_tune.tuner.report.markdown import render_report
from phase8_tune.tuner.report.terminal import render_frontier, render_outcomes
from phase8_tune.tuner.report.trials_csv import render_csv
from phase8_tune.tuner.values.measurement import KernelCheck
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.record import Record
from phase8_tune.tuner.values.timing import Timing

from .report_records import BUDGET_BYTES, CPU, GPU, VERSIONS, make_candidate, make_record

GB = 2**30


def make_facts(**changes: object) -> RunFacts:
    fields: dict[str, object] = {
        "run_root": Path("runs/seed_table-8GB-cuda"),
        "study_name": "seed_table",
        "budget_bytes": BUDGET_BYTES,
        "reserve_bytes": 0,
        "device": GPU,
        "versions": VERSIONS,
        "timing": Timing(),
        "command": "phase8-tune --vram 8GB --study seed_table",
    }
    return RunFacts(**(fields | changes))  # type: ignore[arg-type]


@pytest.fixture
def records() -> list[Record]:
    return [
        make_record(make_candidate(n_seq=256, batch_size=1), tokens_per_s=273, peak_bytes=GB, trial_number=0),
        make_record(
            make_candidate(n_seq=256, batch_size=8), tokens_per_s=1959, peak_bytes=2 * GB, trial_number=1
        ),
        make_record(
            make_candidate(n_seq=512, batch_size=4), tokens_per_s=1138, peak_bytes=3 * GB, trial_number=2
        ),
        make_record(
            make_candidate(model="medium", n_seq=1024, batch_size=1),
            outcome=Outcome.OOM,
            peak_bytes=7 * GB,
            trial_number=3,
        ),
    ]


def section(report: str, title: str) -> str:
    _, _, rest = report.partition(f"{title}")
    return rest.partition("\n## ")[0]


def test_the_sections_in_order(records: list[Record]) -> None:
    report = render_report(Results.of(records), make_facts())
    titles = [line for line in report.splitlines() if line.startswith("## ")]
    assert [t.partition(" (")[0].partition(":")[0] for t in titles] == [
        *("## Environment", "## The answer for 8GB", "## The answers to every goal"),
        *("## Recommended settings for 8GB", "## Best of each model and sequence", "## Findings"),
        *("## How it was measured", "## Outcomes", "## Reproduce"),
    ]


def table(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and not line.startswith("|-")
    ]


def test_the_best_of_each_model_and_sequence(records: list[Record]) -> None:
    report = render_report(Results.of(records), make_facts())
    assert table(section(report, "## Best of each")) == [
        ["Model", "256", "512"],
        ["small", "1,959 (8)", "1,138 (4)"],
    ]


def test_what_all_share_is_one_line(records: list[Record]) -> None:
    report = render_report(Results.of(records), make_facts())
    assert "All that was recorded: device: cuda, variant phase8, kernels reference, precision bf16" in report
    assert "checkpointing none." in section(report, "## Best of each")
    records.append(make_record(make_candidate(n_seq=256, gradient_checkpointing=True), trial_number=4))
    assert "checkpointing" not in section(render_report(Results.of(records), make_facts()), "## Best of each")


def test_modes_have_their_own_section(records: list[Record]) -> None:
    records.append(make_record(make_candidate(mode="forward"), tokens_per_s=5000, trial_number=4))
    report = render_report(Results.of(records), make_facts())
    assert "5,000" in section(report, "## Best of each model and sequence: forward only")
    assert "5,000" not in section(report, "## Best of each model and sequence: training")
    assert "5,000" not in section(report, "## Recommended")


def test_everything_from_a_cpu_is_marked() -> None:
    records = [make_record(device=CPU)]
    report = render_report(Results.of(records), make_facts(device=CPU))
    for title in ("# Phase 8 benchmark", "- Tokens/s of the", "## Findings", "## Recommended"):
        (line,) = [line for line in report.splitlines() if line.startswith(title)]
        assert "device: cpu" in line
    assert "device: cpu" in render_frontier(find_frontier(to_points(records)), Path("runs/mine"))
    assert "Synchronised with the GPU" not in report


def test_the_answer_names_what_to_train_with_its_file(records: list[Record]) -> None:
    records.append(make_record(make_candidate(model="medium", n_seq=256), tokens_per_s=300, trial_number=4))
    text = section(render_report(Results.of(records), make_facts()), "## Recommended")
    assert (
        "Within 8GB on Example GPU, **2 models** fit, from **small** at 1,959 tokens/s to **medium** "
        "(77.64M parameters) at 300. The longest sequence that fits is 512, with small at 1,138 tokens/s."
        in text
    )
    _, small, medium = table(text)
    assert (small[0], small[-1]) == ("small", "`recommended/small.yaml`")
    assert (medium[0], medium[-1]) == ("medium", "`recommended/medium.yaml`")


def test_the_answer_is_that_for_balanced_with_the_file_that_trains_by_it(records: list[Record]) -> None:
    report = render_report(Results.of(records), make_facts())
    text = section(report, "## The answer for")
    assert "**small 8×256 reference bf16 train**: 1,959 tokens/s, 2,048 MB, on Example GPU" in text
    assert f"Balanced: {Goal.BALANCED.sentence}\n" in text
    assert "\nNext best: small 4×512 reference bf16 train: sequence 512 for 256, tokens/s" in text
    path = "runs/seed_table-8GB-cuda/recommended/goal-balanced.yaml"
    assert f"It trains by `phase8-train {path} --data FILE`." in text


def test_the_answers_to_every_goal_are_a_table(records: list[Record]) -> None:
    head, *rows = table(section(render_report(Results.of(records), make_facts()), "## The answers to"))
    assert [row[0] for row in rows] == list(Goal)
    assert head[-2:] == ["Next best", "It would change"]
    long = dict(zip(head, rows[list(Goal).index(Goal.CONTEXT)], strict=True))
    assert long["Configuration"] == "small 4×512 reference bf16 train"
    assert long["It would change"] == "sequence 256 for 512, tokens/s +72.1 %, memory −1,024 MB"


def test_two_variants_stand_side_by_side_where_both_were_measured(records: list[Record]) -> None:
    assert "Phase 7" not in render_report(Results.of(records), make_facts())
    for batch, rate, number in ((1, 250.0, 4), (8, 1700.0, 5), (16, 9000.0, 6)):
        old = make_candidate(n_seq=256, batch_size=batch, variant="phase7")
        records.append(make_record(old, tokens_per_s=rate, peak_bytes=4 * GB, trial_number=number))
    text = section(render_report(Results.of(records), make_facts()), "## Phase 7 and Phase 8")
    assert table(text) == [
        ["Model", "Configuration", *(f"{w} Phase {n}" for w in ("Tokens/s", "Peak (MB)") for n in (7, 8))],
        ["small", "8×256 reference bf16 train", "1,700 (±0)", "1,959 (±0)", "4,096.00", "2,048.00"],
    ]
    assert "`phase8` has 1.12× (1.09–1.15) the tokens/s of `phase7` and 0.38× (0.25–0.50)" in text


def test_nothing_measured_still_makes_a_report() -> None:
    failed = [make_record(outcome=Outcome.OOM, peak_bytes=None)]
    for records in ([], failed):
        report = render_report(Results.of(records), make_facts())
        assert "No training configuration that was measured fits the budget." in report
        assert "## Best of each" not in report


def test_best_throughput_and_scaling_are_those_of_the_data(records: list[Record]) -> None:
    best, longest, scaling = throughput_findings(to_points(records))
    assert "1,959" in best
    assert "batch 8, sequence 256" in best
    assert "at the longest sequence that fits, 512: 1,138 (±0) tokens/s" in longest
    assert (
        "from batch 1 to 8 at sequence 256, 7.18× the tokens/s and 2.00× the peak memory for 8× the"
        in scaling
    )


def test_no_scaling_is_told_from_one_batch() -> None:
    (only,) = throughput_findings(to_points([make_record()]))
    assert "best throughput" in only


def test_memory_findings_tell_what_fits_and_what_does_not(records: list[Record]) -> None:
    lines = "\n".join(memory_findings(records, to_points(records)))
    assert (
        "3 configurations within the budget, peak memory 1,024.00 to 3,072.00 MB; longest sequence 512"
        in lines
    )
    sizes = "10,619,295 parameters, 10,488,223 without the position table"
    assert f"Largest model that fits, train: small with {sizes}" in lines
    assert "**medium, train**: did not fit at sequence 1024: batch 1; nothing measured at this" in lines


def test_a_variant_that_fits_hides_none_that_does_not() -> None:
    old = make_candidate(n_seq=512, batch_size=8, variant="phase7")
    records = [
        make_record(make_candidate(n_seq=512, batch_size=4)),
        make_record(old, outcome=Outcome.OOM, trial_number=1),
    ]
    assert [line for line in memory_findings(records, to_points(records)) if "did not" in line] == [
        "**small phase7, train**: did not fit at sequence 512: batch 8; nothing measured at this sequence "
        "length fits"
    ]


def test_comparisons_use_equal_configurations_only() -> None:
    records = [
        make_record(
            make_candidate(batch_size=1, kernel_version="reference"), tokens_per_s=100, peak_bytes=4 * GB
        ),
        make_record(make_candidate(batch_size=1, kernel_version="fast"), tokens_per_s=300, peak_bytes=2 * GB),
        make_record(
            make_candidate(batch_size=2, kernel_version="reference"), tokens_per_s=100, peak_bytes=4 * GB
        ),
        make_record(make_candidate(batch_size=2, kernel_version="fast"), tokens_per_s=500, peak_bytes=1 * GB),
        make_record(make_candidate(batch_size=64, kernel_version="fast"), tokens_per_s=9000),
    ]
    assert comparison_findings(to_points(records), SPEC.by_name["kernel_version"]) == [
        "Kernels, train: `fast` has 4.00× (3.00–5.00) the tokens/s of `reference` and 0.38× (0.25–0.50) "
        "its peak memory (median and range of 2 equal pairs)"
    ]
    assert comparison_findings(to_points(records), SPEC.by_name["mixed_precision"]) == []


def test_csv_has_every_record_with_units(records: list[Record]) -> None:
    rows = list(csv.DictReader(io.StringIO(render_csv(records, Results.of(records).frontier))))
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3"]
    assert rows[1]["tokens_per_s_mean"] == "1959.0"
    assert rows[1]["peak_bytes"] == str(2 * GB)
    assert (rows[1]["parameters"], rows[1]["body_parameters"]) == ("10619295", "10488223")
    assert rows[1]["peak_mb_2e20"] == "2048.0"
    assert [row["on_frontier"] for row in rows] == ["True", "True", "False", "False"]
    assert rows[3]["outcome"] == "oom"
    assert rows[3]["tokens_per_s_mean"] == ""
    assert rows[3]["message"] == "CUDA out of memory"


def test_a_wrong_version_is_a_finding_with_its_numbers(records: list[Record]) -> None:
    wrong = make_record(
        make_candidate(kernel_version="fast"), outcome=Outcome.WRONG_RESULT, peak_bytes=None, trial_number=4
    )
    check = KernelCheck(
        workload="phase8",
        kernel_version="fast",
        mixed_precision="bf16",
        passed=False,
        worst_ratio=30.0,
        seconds=2.0,
    )
    found = wrong.measurement.model_copy(
        update={"kernel_check": check, "message": "bk_gate, gradient of h: error 0.3, budget 0.01"}
    )
    report = render_report(
        Results.of([*records, wrong.model_copy(update={"measurement": found})]), make_facts()
    )
    assert "bk_gate, gradient of h: error 0.3, budget 0.01" in section(report, "## Findings")
    assert "Correctness of the kernels" not in render_report(Results.of(records), make_facts())


def test_terminal_counts_and_advice(records: list[Record]) -> None:
    text = render_outcomes(records)
    assert text.splitlines()[0] == "4 configurations: 3 measured, 1 did not fit, 0 failed"
    assert "oom: 1; ran out of memory" in text


def test_several_gpus_are_told_with_what_each_measured(records: list[Record]) -> None:
    other = GPU.model_copy(update={"uuid": "GPU-1"})
    unknown = GPU.model_copy(update={"uuid": None})
    rejected = make_record(
        make_candidate(batch_size=64), outcome=Outcome.PREDICTED_OVER_BUDGET, attempt=0, device=unknown
    )
    both = [*records, make_record(make_candidate(batch_size=2), device=other), rejected]
    assert "\n  measured on 2 GPUs: 4 on GPU-0, 1 on GPU-1\n" in render_outcomes(both)
    report = " ".join(render_report(Results.of(both), make_facts(device=unknown)).split())
    assert "| Measured on | 2 GPUs: 4 on GPU-0, 1 on GPU-1 |" in report
    for one in (render_outcomes([*records, rejected]), render_report(Results.of(records), make_facts())):
        assert "GPUs" not in one


def test_disturbed_samples_are_marked() -> None:
    (row,) = csv.DictReader(io.StringIO(render_csv([make_record(tainted=("throttled",))], [])))
    assert row["tainted"] == "throttled"


@pytest.mark.parametrize(
    ("rate", "std", "text"),
    [(1958.6, 127.2, "1,959 (±127)"), (42.25, 0.31, "42.2 (±0.3)"), (3.14159, None, "3.14")],
)
def test_rates(rate: float, std: float | None, text: str) -> None:
    assert format_rate(rate, std) == text
