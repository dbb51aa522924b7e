"""A study over several workloads: what of it each has, how the sampler sees it, how it is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from phase8_tune.tuner.builtin.phase8.spec import SPEC as PHASE8
from phase8_tune.tuner.records.cells import cell_of
from phase8_tune.tuner.records.frontier import to_points
from phase8_tune.tuner.records.journal import Journal, read_records
from phase8_tune.tuner.records.recommend import recommend, recommendation_name
from phase8_tune.tuner.records.results import Results
from phase8_tune.tuner.records.wording import rate_unit
from phase8_tune.tuner.report.findings import comparison_findings, memory_findings, throughput_findings
from phase8_tune.tuner.report.tables import frontier_table
from phase8_tune.tuner.report.trials_csv import render_csv
from phase8_tune.tuner.study.changes import with_models, with_vocab_size, with_workloads
from phase8_tune.tuner.study.definition import StudyDefinition, load_definition, parse_definition
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.training.recommended import write_recommendations
from phase8_tune.tuner.values.axes import Axis
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.values.record import Record
from phase8_tune.tuner.values.workload_spec import WorkloadSpec, note_spec

from ..tuner.report_records import make_record

TWO = """\
name: two
workload: [phase8, transformer]
axes:
  - workload: transformer
    model: [nano, small]
    n_seq: [256, 64]
    batch_size: [1, 4]
    mixed_precision: [none]
    gradient_checkpointing: [false]
    loss: [chunked, dense]
  - workload: transformer
    model: [base]
    n_seq: [512]
    batch_size: [2]
    kernel_version: [compiled]
  - workload: phase8
    model: [nano]
    n_seq: [64, 256]
    batch_size: [1, 4]
    kernel_version: [reference]
    gradient_checkpointing: [false]
    mixed_precision: [none]
"""
IMAGES = WorkloadSpec(
    name="images.py:build",
    title="Classifier",
    items="images",
    models=("small",),
    axes=(
        Axis(name="depth", kind=int, default=18, values=(18, 50), is_of_model=True, word="depth{}"),
        Axis(name="size", kind=int, default=224, minimum=1, is_ordered=True, is_cell_key=True),
    ),
)
note_spec(IMAGES)


def definition() -> StudyDefinition:
    return parse_definition(TWO, "two.yaml")


def test_every_workload_has_its_own_axes() -> None:
    space = SearchSpace(definition())
    candidates = list(space.enumerate())
    of = {name: [c for c in candidates if c.workload == name] for name in ("phase8", "transformer")}
    assert len(of["phase8"]) == 2 * 2
    assert len(of["transformer"]) == 2 * 2 * 2 * 2 + 1
    assert {c.axes.get("loss") for c in of["phase8"]} == {None}
    assert {c.axes["loss"] for c in of["transformer"]} == {"chunked", "dense"}
    assert {c.axes["family"] for c in of["transformer"]} == {"llama"}  # what is not said has its default
    assert len({c.digest() for c in candidates}) == len(candidates)


def test_the_sampler_sees_one_rectangle_of_all_axes() -> None:
    space = SearchSpace(definition())
    assert {"workload", "loss", "family", "variant", "n_seq_index"} <= space.distributions().keys()
    for candidate in space.enumerate():
        parameters = space.parameters_of(candidate)
        assert parameters.keys() == space.distributions().keys()
        assert space.suggest(optuna.trial.FixedTrial(parameters)) == candidate


def test_a_product_that_names_no_workload_is_of_all_of_them() -> None:
    images = replace(IMAGES, name="other.py:build", axes=(*IMAGES.axes, Axis(name="loss", default="dense")))
    note_spec(images)
    text = """\
name: both
workload: [images.py:build, other.py:build]
axes: {model: [small], batch_size: [1, 2], size: [32, 64], loss: [dense, focal]}
"""
    candidates = list(SearchSpace(parse_definition(text, "both.yaml")).enumerate())
    assert [c.workload for c in candidates].count("images.py:build") == 2 * 2
    assert [c.workload for c in candidates].count("other.py:build") == 2 * 2 * 2


def test_a_study_of_several_is_read_back_equal() -> None:
    study = definition()
    again = parse_definition(study.to_yaml(), "copy")
    assert again == study
    assert again.digest() == study.digest()
    assert parse_definition(study.to_yaml().replace("base", "xl"), "copy").digest() != study.digest()


@pytest.mark.parametrize(
    ("given", "instead", "told"),
    [
        (
            "[phase8, transformer]",
            "[phase8, transfomer]",
            "workload: workload: expected one of .* transformer",
        ),
        ("[phase8, transformer]", "[phase8, phase8]", "workload: expected a workload, or several once each"),
        (
            "workload: transformer",
            "workload: hf",
            r"axes\[0\]\.workload: expected one of phase8, transf",
        ),
        ("[chunked, dense]", "[chunky]", r"axes\[0\]\.loss\[0\]: expected 'dense', 'chunked', "),
        ("loss:", "lost:", r"axes\[0\]\.lost: unknown key; .*did you mean loss"),
        ("n_seq: [512]", "n_seq: [0]", r"axes\[1\]\.n_seq\[0\]: expected a number greater than 0, got 0"),
        ("[base]", "[bass]", r"axes\[1\]\.model\[0\]: expected one of nano, .*did you mean base"),
    ],
)
def test_mistakes_are_named_with_their_place(given: str, instead: str, told: str) -> None:
    assert given in TWO
    with pytest.raises(UserInputError, match=rf"two\.yaml: {told}"):
        parse_definition(TWO.replace(given, instead, 1), "two.yaml")


def test_what_a_model_does_not_take_is_no_candidate() -> None:
    text = "name: long\nworkload: hf\naxes: {model: [gpt2], n_seq: [512, 4096], batch_size: [1]}\n"
    assert [line.length for line in SearchSpace(parse_definition(text, "s.yaml")).lines] == [512]
    with pytest.raises(UserInputError, match=r"study long: .* gpt2 takes at most 1024 positions, got 4096"):
        SearchSpace(parse_definition(text.replace("512, ", ""), "s.yaml"))
    rows = (
        "name: r\nworkload: transformer\nrows: [{model: nano, n_seq: 64, batch_size: 1, queries_per_kv: 7}]\n"
    )
    with pytest.raises(UserInputError, match=r"s\.yaml: rows\[0\]: queries_per_kv: expected a divisor of"):
        parse_definition(rows, "s.yaml")


def test_rows_of_several_workloads_name_theirs() -> None:
    text = """\
name: rows
workload: [phase8, images.py:build]
defaults: {batch_size: 2, gradient_checkpointing: false, mixed_precision: none, kernel_version: reference}
rows:
  - {workload: phase8, model: nano, n_seq: 64}
  - {workload: images.py:build, model: small, depth: 50}
"""
    first, second = parse_definition(text, "rows.yaml").row_candidates()
    assert (first.workload, first.length, first.version) == ("phase8", 64, "reference")
    assert second.to_dict() == {
        **{"workload": "images.py:build", "model": "small", "depth": 50, "size": 224},
        **{"batch_size": 2, "mode": "train"},
    }
    with pytest.raises(UserInputError, match=r"rows\[0\]\.workload: expected one of phase8, images"):
        parse_definition(text.replace("workload: phase8, ", ""), "rows.yaml")


def test_a_workload_that_a_study_has_not_is_searched_on_what_both_have() -> None:
    changed = with_workloads(load_definition("default"), ("phase8", "transformer"))
    assert changed.workloads == ("phase8", "transformer")
    assert parse_definition(changed.to_yaml(), "copy") == changed
    ours, theirs = (
        [p.values() for p in changed.products if p.spec.name == name] for name in changed.workloads
    )
    assert ours == [product.values() for product in load_definition("default").products]
    [product] = theirs
    assert product["model"] == ours[0]["model"]
    assert product["n_seq"] == ours[0]["n_seq"]
    assert product["kernel_version"] == ("eager", "compiled")
    assert product["batch_size"] == {"min": 1, "max": 16384}
    alone = with_workloads(load_definition("cpu"), ("images.py:build",))
    assert [line.describe() for line in SearchSpace(alone).lines][:1] == [
        "images.py:build small depth18 0 224 train"
    ]
    with pytest.raises(
        UserInputError, match="--workload: expected a workload of study seed_table, which has"
    ):
        with_workloads(load_definition("seed_table"), ("transformer",))


def test_models_and_vocabularies_change_where_there_are_any() -> None:
    changed = with_vocab_size(with_models(definition(), ["small"]), 600)
    assert {c.model for c in SearchSpace(changed).lines} == {"small"}
    assert {c.axes["vocab_size"] for c in SearchSpace(changed).lines} == {600}
    images = with_workloads(load_definition("cpu"), ("images.py:build",))
    with pytest.raises(UserInputError, match="--vocab-size: expected a study of models with a vocabulary"):
        with_vocab_size(images, 600)


def records() -> list[Record]:
    ours: dict[str, Any] = {"kernel_version": "reference", "gradient_checkpointing": False}
    asked = [
        Candidate(model="small", n_seq=64, batch_size=4, mixed_precision="none", **ours),
        *(
            Candidate(workload="transformer", model="small", n_seq=64, batch_size=4, loss=loss)
            for loss in ("dense", "chunked")
        ),
        Candidate(workload="images.py:build", model="small", batch_size=8, size=32),
    ]
    return [
        make_record(
            candidate, parameters=1000 + number, tokens_per_s=100.0 * (1 + number), trial_number=number
        )
        for number, candidate in enumerate(asked)
    ]


def test_models_of_the_same_name_are_told_apart() -> None:
    points = to_points(records())
    assert len({cell_of(point.candidate) for point in points}) == 3
    assert [recommendation_name(point.candidate) for point in recommend(points)] == [
        "small",
        "transformer-small",
        "images.py_build-small-depth18",
    ]
    told = "\n".join([*throughput_findings(points), *memory_findings(records(), points)])
    assert "**Phase 8 small, train**: best throughput 100 (±0.00) tokens/s" in told.replace("(±0)", "(±0.00)")
    assert "**Transformer small, train**" in told
    assert "images/s (batch 8, size 32)" in told
    assert "largest batch 8" in told
    assert comparison_findings(
        points, next(axis for axis in points[-1].candidate.spec.axes if axis.name == "loss")
    ) == [
        "Loss, train: `chunked` has 1.50× the tokens/s of `dense` and 1.00× its peak memory (one equal pair)"
    ]


def test_what_is_recommended_is_written_as_its_workload_does(tmp_path: Path) -> None:
    asked = Candidate(workload="hf", model="gpt2", batch_size=2, n_seq=128, lora_rank=8)
    points = to_points([make_record(asked, parameters=1000), *records()])
    written = write_recommendations(recommend(points), tmp_path)
    assert sorted(path.name for path in written) == [
        "hf-gpt2-lora8.lora_config.json",
        "hf-gpt2-lora8.model_arguments.json",
        "hf-gpt2-lora8.training_arguments.json",
        "small.yaml",
        "transformer-small.yaml",
    ]
    assert sorted(tmp_path.iterdir()) == sorted(written)


def test_an_earlier_version_is_told_that_it_knows_no_other_workload(tmp_path: Path) -> None:
    with Journal(tmp_path / "records.jsonl") as journal:
        journal.append(*records())
    lines = (tmp_path / "records.jsonl").read_text().splitlines()
    assert [json.loads(line)["format_version"] for line in lines] == [3, 4, 4, 4]
    assert [r.to_candidate() for r in read_records(tmp_path / "records.jsonl")] == [
        record.to_candidate() for record in records()
    ]


def test_tables_have_the_columns_of_all() -> None:
    points = to_points(records())
    headers, rows, align = frontier_table(points)
    assert headers[:5] == ["Model", "Parameters", "Without positions", "Batch×sequence", "Workload"]
    assert "Items/s" in headers
    assert len(headers) == len(align) == len(rows[0])
    assert rate_unit(point.candidate for point in points[-2:]) in ("tokens/s", "items/s")
    heading, *lines = render_csv(records(), ()).splitlines()
    assert {"loss", "variant", "depth", "size"} <= set(heading.split(","))
    assert len(lines) == 4
    assert Results.of(records()).frontier


def test_phase8_s_records_are_as_they_were() -> None:
    candidate = Candidate(
        model="nano",
        n_seq=64,
        batch_size=8,
        kernel_version="fast",
        gradient_checkpointing=True,
        mixed_precision="bf16",
    )
    assert tuple(candidate.to_dict()) == PHASE8.order
    assert candidate.describe() == "nano 8×64 fast bf16 checkpointing train"
