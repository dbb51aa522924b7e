"""`predict` from Python: it asks as the command does, and what comes shows itself."""

from __future__ import annotations

from typing import Any

import pytest

from phase8_tune import predict
from phase8_tune.tuner.predict.outlook import Rate
from phase8_tune.tuner.predict.prediction import Predictor
from phase8_tune.tuner.report.shown import ShownPrediction
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.values.measurement import LedgerLine

from .report_records import make_candidate


class Asked(Exception):
    """Instead of a prediction: what was asked for."""


def test_a_prediction_is_asked_for_as_the_command_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def predicted(self: Predictor, candidate: Candidate, budget_bytes: int) -> None:
        raise Asked(candidate.describe(), budget_bytes, self.profile.name, self.reserve_bytes)

    monkeypatch.setattr(Predictor, "predict", predicted)
    with pytest.raises(Asked) as asked:
        predict(model="small", seq=512, batch=4, gpu="rtx-3060", vram="8GB", reserve="1GB")
    assert asked.value.args == ("small 4×512 fast bf16 train", 8 * 2**30, "rtx-3060", 2**30)
    axes: dict[str, str | bool] = {
        "kernel_version": "reference",
        "mixed_precision": "none",
        "gradient_checkpointing": True,
    }
    with pytest.raises(Asked) as asked:
        predict(model="64x1", seq=32, gpu="rtx-2070", axes=axes, mode="forward")
    assert asked.value.args[0] == "64x1 1×32 reference none checkpointing forward"
    assert asked.value.args[1:] == (8 * 2**30, "rtx-2070", 0)


def test_a_prediction_shows_itself() -> None:
    shown = ShownPrediction(
        candidate=make_candidate(),
        gpu="<b>",
        budget_bytes=8 * 2**30,
        parameters=1,
        body_parameters=1,
        ledger=(LedgerLine(name="reserved", size_bytes=2**30, source="<i>"),),
        peak_bytes=2 * 2**30,
        peak_allocated_bytes=2**30,
        peak_reserved_bytes=2**30,
        peak_op="mm",
        peak_phase="backward",
        fits=True,
        tokens_per_s=Rate(low=900.0, expected=1000.0, high=1200.0),
        limited_by="arithmetic",
    )
    assert str(shown).splitlines() == [
        "small 4×512 reference bf16 train on <b>: predicted, not measured",
        "peak 2,048.00 MB, budget 8GB: fits with 3% to spare",
        "1,000 tokens/s (90 %: 900 to 1,200), limited by arithmetic",
    ]
    assert repr(shown) == str(shown)
    page = shown._repr_html_()
    assert page.count("<tr>") == 3
    assert "&lt;i&gt;" in page
    assert "<b>" not in page


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"axes": {"kernels": "fast"}}, "axes: expected one of .*kernel_version.*, got 'kernels'"),
        ({"axes": {"mixed_precision": "int3"}}, "--precision: expected 'bf16', 'fp16' or 'none'"),
        ({"batch": 0}, "batch: expected a number above 0, got 0"),
        ({"seq": 0}, "--seq: expected a number greater than 0, got 0"),
        ({"seq": None}, "--seq: expected a value of n_seq, got none"),
        ({"gpu": "rtx 9999"}, "--gpu: expected a card"),
        ({"gpu": "rtx-2070"}, "NVIDIA GeForce RTX 2070: expected what runs on compute capability 7.5"),
        ({"reserve": "some"}, "reserve: expected a size"),
    ],
)
def test_what_cannot_be_predicted_is_said_in_a_line(asked: dict[str, Any], expected: str) -> None:
    usual: dict[str, Any] = {"model": "small", "seq": 512, "gpu": "rtx-3060"}
    with pytest.raises(UserInputError, match=f"^{expected}"):
        predict(**(usual | asked))
