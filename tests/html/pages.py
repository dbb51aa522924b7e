"""Results and words of pages for the tests: a small study, with texts that break a careless page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from phase8_tune.tuner.html.facts import GoalWords, PageFacts, PageRun, Section
from phase8_tune.tuner.html.page import render_html
from phase8_tune.tuner.records.results import Results
from phase8_tune.tuner.values.measurement import LedgerLine, PredictedFigures, Telemetry
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.record import Record

from ..tuner.report_records import BUDGET_BYTES, GPU, make_candidate, make_record

GB = 2**30
EVIL = "<script>alert(1)</script>"
EVIL_MESSAGE = "</script><script>document.title='broken'</script>\u2028\u2029 %{x} <b>&amp;</b> ]]> -->"
FACTS = PageFacts(
    title=f"study {EVIL}",
    lead=Section(title="The answer", lines=(f"**small** and `{EVIL}` fit.",)),
    goals=(),
    models=Section(title="Models", rows=(("Model", "Rate"), (EVIL, "5")), align="lr"),
    before=(),
    after=(Section(title="Environment", rows=(("Property", "Value"), ("GPU", EVIL))),),
    commands=(f"phase8-tune --study '{EVIL}'",),
)


def with_details(record: Record, energy_j: float | None = None) -> Record:
    """The record with a ledger, and energy where it is given."""
    changes: dict[str, object] = {
        "ledger": (
            LedgerLine(name="context", size_bytes=GB // 2, source="nvml"),
            LedgerLine(name="reserved", size_bytes=GB, source="torch"),
        )
    }
    if energy_j is not None:
        changes["telemetry"] = Telemetry(energy_j=energy_j)
    return record.model_copy(update={"measurement": record.measurement.model_copy(update=changes)})


def make_records() -> list[Record]:
    """Two models, two kernel versions, three batches; one predicted, one out of memory, one of a bad name."""
    found = [
        with_details(
            make_record(
                make_candidate(model=model, batch_size=batch, kernel_version=version, n_seq=n_seq),
                tokens_per_s=rate * batch * (0.5 if version == "reference" else 1),
                peak_bytes=batch * GB,
                trial_number=number,
            ),
            energy_j=10.0,
        )
        for number, (model, batch, version, n_seq, rate) in enumerate(
            (model, batch, version, n_seq, rate)
            for model, rate in (("nano", 4000), ("small", 1000))
            for version, n_seq in (("fast", 512), ("fast", 1024), ("reference", 512))
            for batch in (1, 2, 4)
        )
    ]
    foreseen = make_record(make_candidate(model="base", kernel_version="fast"), peak_bytes=3 * GB, attempt=0)
    figures = PredictedFigures(
        tokens_per_s_low=600.0,
        tokens_per_s=900.0,
        tokens_per_s_high=1300.0,
        limited_by="x",
        peak_bytes_high=4 * GB,
    )
    card = GPU.model_copy(update={"kind": "predicted"})
    measurement = foreseen.measurement.model_copy(
        update={"predicted": figures, "samples_s": (), "device": card}
    )
    refused = make_record(make_candidate(batch_size=64), outcome=Outcome.OOM, trial_number=30)
    told = refused.measurement.model_copy(update={"message": EVIL_MESSAGE})
    evil = make_candidate(model=EVIL, workload=EVIL, kernel_version=EVIL)
    return [
        *found,
        foreseen.model_copy(update={"measurement": measurement}),
        refused.model_copy(update={"measurement": told}),
        make_record(evil, parameters=5_000_000, peak_bytes=5 * GB, trial_number=31),
    ]


def page_run(results: Results, name: str = "") -> PageRun:
    """The results as a run on the example's card."""
    return PageRun(name=name, results=results, device="Example GPU (device: cuda)", budget_bytes=BUDGET_BYTES)


def make_facts(results: Results) -> PageFacts:
    """The words of a page whose goals are answered by its fastest and its slowest point."""
    points = sorted(results.points, key=lambda point: point.tokens_per_s)
    answers = (("balanced", points[-1]), (EVIL, points[0]))
    goals = tuple(
        GoalWords(
            goal=goal,
            digest=point.record.digest,
            configuration=point.candidate.describe(),
            figures=f"{point.tokens_per_s:,.0f} tokens/s",
            said=((goal, f"What {EVIL} is best for."), ("why", EVIL)),
            notes=("Mind this.",),
        )
        for goal, point in answers
    )
    return replace(FACTS, goals=goals)


def write_page(folder: Path) -> Path:
    """The page of `make_records`."""
    path = folder / "report.html"
    results = Results.of(make_records())
    path.write_text(render_html([page_run(results)], make_facts(results)), encoding="utf-8")
    return path
