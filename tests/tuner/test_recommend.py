"""Recommendations: the fastest training configuration of each model that fits, as a file that loads again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phase8_tune.phase8.config import PRESETS, preset
from phase8_tune.tuner.records.frontier import to_points
from phase8_tune.tuner.records.recommend import recommend
from phase8_tune.tuner.training.recommended import settings_of, to_yaml, write_recommendations
from phase8_tune.tuner.training.settings import load_settings
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.record import Record

from .report_records import BUDGET_BYTES, CPU, make_candidate, make_record


def settings_text(record: Record) -> str:
    (point,) = recommend(to_points([record]))
    settings = settings_of(point)
    assert settings is not None
    return to_yaml(settings)


def test_the_fastest_of_each_model_smallest_model_first() -> None:
    records = [
        make_record(make_candidate(model="medium", batch_size=1), tokens_per_s=300),
        make_record(make_candidate(batch_size=1), tokens_per_s=900),
        make_record(make_candidate(batch_size=4), tokens_per_s=1100),
        make_record(make_candidate(batch_size=2), tokens_per_s=1000),
    ]
    chosen = [(p.candidate.model, p.candidate.batch_size) for p in recommend(to_points(records))]
    assert chosen == [("small", 4), ("medium", 1)]


@pytest.mark.parametrize(
    "record",
    [
        make_record(make_candidate(mode="forward")),
        make_record(outcome=Outcome.OOM),
        make_record(peak_bytes=BUDGET_BYTES + 1),
        make_record(make_candidate(workload="own_model:WORKLOAD"), parameters=1),
    ],
    ids=["forward only", "out of memory", "over the budget", "not trained by phase8-train"],
)
def test_what_is_never_recommended(record: Record) -> None:
    assert recommend(to_points([record])) == []


def test_the_file_begins_as_the_seed_does() -> None:
    record = make_record(make_candidate(batch_size=4), tokens_per_s=1138.2, peak_bytes=2243088875)
    assert settings_text(record).splitlines()[:9] == [
        "d_model: 512",
        "n_layers: 8",
        "n_seq: 512",
        "batch_size: 4",
        "# throughput: ~1,138 tokens/s",
        "# memory: ~2,139 MB",
        "# measured on Example GPU (device: cuda), training, under a budget of 8GB",
        "format_version: 2",
        "workload: phase8",
    ]


def test_a_cpu_says_so() -> None:
    text = settings_text(make_record(device=CPU))
    assert "(device: cpu)" in text
    assert "device_kind: cpu" in text


@pytest.mark.parametrize("model", PRESETS)
@pytest.mark.parametrize("variant", ["phase8", "phase7"])
def test_the_file_loads_back_to_the_same_model(tmp_path: Path, model: str, variant: str) -> None:
    record = make_record(make_candidate(model=model, variant=variant, gradient_checkpointing=True))
    (path,) = write_recommendations(recommend(to_points([record])), tmp_path)
    settings = load_settings(path)
    config = preset(model, n_seq=512, variant="phase7" if variant == "phase7" else "phase8")
    assert settings.to_config().parameter_count() == config.parameter_count()
    assert (settings.batch_size, settings.gradient_checkpointing) == (4, "full")
    assert "gradient_checkpointing: true" in path.read_text()  # as earlier versions read it
    assert settings.measured is not None
    assert settings.measured.digest == record.digest
    assert settings.measured.mean_tokens_per_s == pytest.approx(1000)
    assert settings == settings_of(recommend(to_points([record]))[0])


def test_files_of_models_without_a_record_go_and_others_stay(tmp_path: Path) -> None:
    both = [make_record(), make_record(make_candidate(model="nano"))]
    assert [p.name for p in write_recommendations(recommend(to_points(both)), tmp_path)] == [
        "nano.yaml",
        "small.yaml",
    ]
    (tmp_path / "mine.yaml").write_text((tmp_path / "nano.yaml").read_text())
    (tmp_path / "notes.yaml").write_text("not: settings\n")
    write_recommendations(recommend(to_points(both[:1])), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.yaml", "notes.yaml", "small.yaml"]


def test_a_file_that_cannot_be_replaced_is_left_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = write_recommendations(recommend(to_points([make_record()])), tmp_path)
    before = path.read_text()

    def refuse(source: str, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(UserInputError, match="No space left on device"):
        write_recommendations(recommend(to_points([make_record(tokens_per_s=5000)])), tmp_path)
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["small.yaml"]


def test_a_folder_that_is_a_file_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "recommended").write_text("")
    with pytest.raises(UserInputError, match="choose another place"):
        write_recommendations(recommend(to_points([make_record()])), tmp_path / "recommended")
