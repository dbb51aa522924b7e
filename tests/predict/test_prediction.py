"""Predictions end to end: a process that traces, answers on disk, the ledger, and the command."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from phase8_tune.tuner import cli
from phase8_tune.tuner.predict.fits import LAUNCH, RECOMMEND
from phase8_tune.tuner.predict.lines import line_key
from phase8_tune.tuner.predict.outlook import Prediction
from phase8_tune.tuner.predict.prediction import Predictor
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.predict.store import PredictionStore
from phase8_tune.tuner.predict.tracers import LocalTracers
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.errors import NothingFitsError, UserInputError

GIB = 1 << 30
PROFILE = gpu_profile("rtx-3080-laptop")
CANDIDATE = Candidate(
    model="nano",
    n_seq=256,
    batch_size=16,
    kernel_version="v2",
    gradient_checkpointing="none",
    mixed_precision="bf16",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def store(folder):
    with PredictionStore(folder, processes=1) as store:
        yield store


@pytest.fixture
def predictor(store: PredictionStore) -> Predictor:
    return Predictor(profile=PROFILE, store=store)


@pytest.fixture
def prediction(predictor: Predictor) -> Prediction:
    return predictor.predict(CANDIDATE, 8 * GIB)


def test_ledger_adds_up(predictor, prediction):
    lines = {line.name: line.size_bytes for line in prediction.ledger}
    assert sum(lines.values()) == prediction.peak_bytes
    outside = sum(line.size_bytes for line in predictor.outside(CANDIDATE))
    assert outside == lines["context"] + lines["libraries"] + lines["graph"]
    assert prediction.peak_reserved_bytes == prediction.peak_bytes - outside
    assert all(size >= 0 for size in lines.values())
    workspaces = PROFILE.workspaces({})
    # Of two threads, of which one adds biases in a product, unless what does is computed again in the other
    assert lines["workspaces"] == 2 * workspaces.blas_bytes + workspaces.blaslt_bytes
    assert lines["weights"] >= 4 * prediction.parameters
    assert prediction.peak_allocated_bytes <= prediction.peak_reserved_bytes
    assert all(line.source.startswith(("predicted", "estimate", "measured")) for line in prediction.ledger)


def test_a_captured_step_has_a_graph_beside_its_memory(predictor):
    """It counts in the ledger, and what is left to torch is less by it."""
    eager = CANDIDATE.changed(kernel_version="reference")
    found = predictor.predict(CANDIDATE, 8 * GIB)
    graph = {line.name: line.size_bytes for line in found.ledger}["graph"]
    assert graph == PROFILE.graph_bytes.value
    assert found.peak_bytes == found.peak_reserved_bytes + predictor.outside_bytes(CANDIDATE)
    assert predictor.outside_bytes(CANDIDATE) == predictor.outside_bytes(eager) + graph
    assert predictor.predict(CANDIDATE, RECOMMEND.needed_bytes(found.peak_bytes) + 2).fits
    too_small = predictor.outside_bytes(CANDIDATE) + found.peak_allocated_bytes - 1
    assert not predictor.predict(CANDIDATE, too_small).fits


def test_the_largest_batch_is_the_largest(predictor):
    budget = 2 * GIB
    largest = predictor.largest_batch(CANDIDATE, budget)
    assert largest > CANDIDATE.batch_size
    assert predictor.predict(replace(CANDIDATE, batch_size=largest), budget).fits
    assert not predictor.predict(replace(CANDIDATE, batch_size=largest + 1), budget).fits
    assert predictor.largest_batch(CANDIDATE, 2 * budget) > largest


def test_a_survey_calls_a_fit_only_what_fits_with_less_room(predictor):
    """As asked one by one, without the short cuts of a rough answer; and at last one does not fit."""
    budget = 2 * GIB
    outside = predictor.outside_bytes(CANDIDATE)
    candidates = [replace(CANDIDATE, batch_size=batch) for batch in (1, 8, 64, 512, 4096)]
    forecasts = predictor.survey(candidates, budget, LAUNCH)
    for candidate, forecast in zip(candidates, forecasts, strict=True):
        launched = RECOMMEND.needed_bytes(outside + LAUNCH.cap_bytes(budget - outside)) + 2
        assert forecast.is_over != predictor.predict(candidate, launched).fits
        assert not (forecast.is_over and predictor.predict(candidate, budget).fits)
    assert [forecast.is_over for forecast in forecasts] == sorted(forecast.is_over for forecast in forecasts)
    assert not forecasts[0].is_over
    assert forecasts[-1].is_over


class Refusing(LocalTracers):
    """For a store that knows what is kept, and no more."""

    def submit(self, job):
        raise AssertionError("a process was asked for what is known")


def test_between_the_margins_a_search_launches_what_is_not_recommended(predictor, prediction):
    """From just too little to more than enough: over; launched; launched and recommended."""
    outside = predictor.outside_bytes(CANDIDATE)
    peak, torchs = prediction.peak_bytes, prediction.peak_reserved_bytes
    found = []
    for budget in (
        peak,
        outside + int(torchs * 1.005),
        outside + int(torchs / 0.99) + 2,
        int(peak * 1.03) + 2,
    ):
        [forecast] = predictor.survey([CANDIDATE], budget, LAUNCH)
        [decided] = predictor.survey([CANDIDATE], budget, RECOMMEND)
        assert decided.is_over != predictor.predict(CANDIDATE, budget).fits
        found.append((not forecast.is_over, not decided.is_over))
    assert found == [(False, False), (False, False), (True, False), (True, True)]


def test_a_card_that_is_smaller_than_the_budget_has_the_margin_itself(predictor, prediction):
    """Nothing can be taken of a budget beyond the card: what is recommended leaves 3 % of the card."""
    card = replace_capacity(predictor, int(prediction.peak_bytes * 1.02))
    roomy = replace_capacity(predictor, int(prediction.peak_bytes * 1.03) + 2)
    assert not card.predict(CANDIDATE, 8 * GIB).fits
    assert not card.survey([CANDIDATE], 8 * GIB, LAUNCH)[0].is_over
    assert roomy.predict(CANDIDATE, 8 * GIB).fits


def replace_capacity(predictor: Predictor, capacity_bytes: int) -> Predictor:
    profile = predictor.profile.model_copy(update={"capacity_bytes": capacity_bytes})
    return replace(predictor, profile=profile)


def test_answers_are_kept(folder, predictor, prediction):
    largest = predictor.largest_batch(CANDIDATE, 2 * GIB)
    kept = Predictor(profile=PROFILE, store=PredictionStore(folder, tracers=Refusing()))
    assert kept.predict(CANDIDATE, 8 * GIB) == prediction
    assert kept.largest_batch(CANDIDATE, 2 * GIB) == largest


def test_a_line_has_one_file_of_answers(folder, predictor):
    predictor.largest_batch(CANDIDATE, 2 * GIB)
    names = [path.name for path in (folder / "predictions").iterdir()]
    assert {path.rpartition(".")[2] for path in names} == {"line", "json"}
    assert len(names) == 2 * len({path.partition(".")[0] for path in names})


@pytest.mark.parametrize(
    "text",
    [
        '{"8/1000/0/0/0": {"fits": true}}',  # by question, with nothing around: before files had a format
        '{"format": 1000000, "answers": {"8/": 8}}',  # of one to come
        "[]",
        "{]",
    ],
)
def test_answers_of_another_format_or_damaged_are_asked_again(folder, store, prediction, text):
    for path in (folder / "predictions").glob("*.json"):
        path.write_text(text)
    with pytest.raises(AssertionError, match="a process was asked"):
        Predictor(profile=PROFILE, store=PredictionStore(folder, tracers=Refusing())).predict(
            CANDIDATE, 8 * GIB
        )
    assert Predictor(profile=PROFILE, store=store).predict(CANDIDATE, 8 * GIB) == prediction


def test_a_folder_that_cannot_be_written_costs_nothing_but_a_warning(tmp_path, prediction, capsys):
    (tmp_path / "file").write_text("")
    with PredictionStore(tmp_path / "file", processes=1) as store:
        assert Predictor(profile=PROFILE, store=store).predict(CANDIDATE, 8 * GIB) == prediction
    (said,) = capsys.readouterr().err.splitlines()
    assert said.endswith("name another folder with PHASE8_TUNE_CACHE")


def test_nothing_fits_a_budget_below_the_context(predictor):
    with pytest.raises(NothingFitsError, match="--vram"):
        predictor.predict(CANDIDATE, 1 << 20)


def test_another_workload_has_no_figures_of_this_ones(predictor):
    """Its models may have the same names."""
    other = replace(CANDIDATE, workload="theirs:WORKLOAD")
    for ask in (lambda: predictor.predict(other, 8 * GIB), lambda: predictor.parameters(other)):
        with pytest.raises(
            UserInputError,
            match=r"can be predicted, phase8, or training .*, got one of theirs:WORKLOAD; meas",
        ):
            ask()
    key = line_key(CANDIDATE, PROFILE)
    assert replace(key, workload="theirs:WORKLOAD").digest("") != key.digest("")


def test_a_model_that_is_not_there_is_the_users_error(predictor):
    with pytest.raises(UserInputError, match="model"):
        predictor.predict(replace(CANDIDATE, model="titan"), 8 * GIB)


ARGUMENTS = [
    "predict",
    "--model",
    "nano",
    "--seq",
    "256",
    "--batch",
    "16",
    "--kernel",
    "v2",
]


def test_the_command(folder, monkeypatch, capsys, prediction):
    monkeypatch.setenv("PHASE8_TUNE_CACHE", str(folder))
    where = ["--gpu", "rtx-3080-laptop", "--vram", "8GB"]
    cli.main([*ARGUMENTS, *where, "--json"])
    data = json.loads(capsys.readouterr().out)
    assert data["basis"] == "predicted"
    assert data["peak_bytes"] == prediction.peak_bytes
    assert (data["fits"], data["fits_when"]) == (True, "with 3% to spare")
    assert (data["search_launches"], data["search_launches_when"]) == (True, "fits with 1% less room")
    cli.main([*ARGUMENTS, *where])
    text = capsys.readouterr().out
    assert "predicted, not measured" in text
    assert "budget 8GB: fits with 3% to spare; largest batch that fits with 3% to spare: " in text
    assert "search" not in text
    cli.main([*ARGUMENTS, "--no-checkpointing", *where, "--json"])
    assert json.loads(capsys.readouterr().out) == data
    for given, word in ((["--checkpointing"], "full"), (["--checkpointing", "selective"], "selective")):
        cli.main([*ARGUMENTS, *given, *where, "--json"])
        assert json.loads(capsys.readouterr().out)["candidate"]["gradient_checkpointing"] == word
    between = prediction.peak_bytes * 102 // 100 // 2**20
    cli.main([*ARGUMENTS, "--gpu", "rtx-3080-laptop", "--vram", f"{between}MB"])
    text = capsys.readouterr().out
    assert "does not fit with 3% to spare; fits with 1% less room, so a search launches and measures" in text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--gpu", "voodoo"], "--gpu: expected a card that `phase8-tune gpus` lists"),
        (["--kernel", "v9"], "--kernel: expected one of reference"),
        (["--vram", "lots"], "--vram: expected a size"),
        (["--model", "titan"], "--model: expected one of nano"),
        (["--gpu", "h200", "--calibrate"], "--calibrate"),
    ],
)
def test_bad_input_is_one_line(options, expected, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*ARGUMENTS, *options])
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert expected in lines[0]


def test_the_driver_imports_no_torch():
    code = (
        "import sys, phase8_tune.tuner.predict.prediction, phase8_tune.tuner.commands.predict,"
        "phase8_tune.tuner.predict.rate.calibration; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
