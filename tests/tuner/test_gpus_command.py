"""`phase8-tune gpus`, and a plan for a card that cannot do all that a study asks of it."""

from __future__ import annotations

import json

import pytest

from phase8_tune.tuner.cli import main
from phase8_tune.tuner.commands.card_study import for_card
from phase8_tune.tuner.predict.rate.profiles import gpu_profile, gpu_profiles
from phase8_tune.tuner.study.definition import load_definition, parse_definition
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.values.errors import UserInputError

STUDY = """\
name: tiny
axes:
  - {model: [nano], n_seq: [32], batch_size: [1, 2], kernel_version: [fast], gradient_checkpointing: [false],
     mixed_precision: [fp16]}
  - {model: [nano], n_seq: [32], batch_size: [1], kernel_version: [reference, v1],
     gradient_checkpointing: [false], mixed_precision: [bf16, fp16, none]}
"""
ROWS = """\
name: table
defaults: {kernel_version: reference, gradient_checkpointing: false, mixed_precision: none, n_seq: 32}
rows:
  - {model: nano, batch_size: 1}
  - {model: nano, batch_size: 2, kernel_version: fast}
  - {model: nano, batch_size: 3, mixed_precision: bf16}
"""


def test_the_list_has_every_card_and_what_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    main(["gpus"])
    lines = capsys.readouterr().out.splitlines()
    lacks: dict[str, str] = {}
    group = ""
    for line in lines[2:]:
        if line.startswith("With"):
            group = line.strip()
        else:
            lacks[line.split()[0]] = group
    assert lacks.keys() == gpu_profiles().keys()
    assert lacks["rtx-2070"] == "Without bf16, fp8, Triton"
    assert lacks["rtx-3080-laptop"] == lacks["a100"] == "Without fp8"
    assert lacks["rtx-5060"] == "With bf16, fp8, Triton"
    assert next(line for line in lines if line.startswith("rtx-3090 ")).split()[1:4] == ["24", "936", "71"]


def test_the_list_keeps_to_forty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phase8_tune.tuner.values.terminal.terminal_width", lambda stream: 40)
    main(["gpus"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    assert ["rtx-3060", "12", "360"] in [line.split() for line in lines]
    assert lines[-1] == "  phase8-tune gpus --json"


def test_a_name_shows_the_card_that_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    main(["gpus", "3060", "ti", "--json"])
    [card] = json.loads(capsys.readouterr().out)
    assert (card["name"], card["lacks"]) == ("rtx-3060-ti", ["fp8"])
    assert card["bandwidth"] == gpu_profile("rtx-3060-ti").bandwidth.model_dump()


def test_everything_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["gpus", "--json"])
    cards = json.loads(capsys.readouterr().out)
    assert sorted(card["name"] for card in cards) == sorted(gpu_profiles())
    assert all(card["shared_memory_per_block_bytes"] for card in cards)


def test_a_name_that_none_has_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["gpus", "voodoo"])
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_of_a_study_is_left_out_what_a_card_cannot_do() -> None:
    told: list[str] = []
    definition, text = for_card(parse_definition(STUDY, "tiny.yaml"), STUDY, gpu_profile("t4"), told.append)
    assert len(told) == 1
    assert told[0].startswith("Tesla T4 (compute capability 7.5) has no bf16 and no Triton kernels; ")
    left = {(c.kernel_version, c.mixed_precision) for c in SearchSpace(definition).enumerate()}
    assert left == {("reference", "fp16"), ("reference", "none")}
    assert parse_definition(text, "left.yaml") == definition


def test_of_rows_too() -> None:
    definition, text = for_card(parse_definition(ROWS, "rows.yaml"), ROWS, gpu_profile("gtx-1660"), print)
    assert [candidate.batch_size for candidate in definition.row_candidates()] == [1]
    assert parse_definition(text, "left.yaml") == definition


def test_the_default_study_leaves_something_for_cards_without_triton() -> None:
    left, _ = for_card(load_definition("default"), "", gpu_profile("t4"), print)
    assert {(c.kernel_version, c.mixed_precision) for c in SearchSpace(left).lines} == {("reference", "fp16")}


def test_a_card_that_can_do_it_all_has_the_whole_study() -> None:
    told: list[str] = []
    definition = parse_definition(STUDY, "tiny.yaml")
    assert for_card(definition, STUDY, gpu_profile("rtx-3060"), told.append) == (definition, STUDY)
    assert told == []


def test_a_study_of_which_nothing_runs_is_refused() -> None:
    text = STUDY[: STUDY.rindex("  - ")]
    with pytest.raises(
        UserInputError, match="no bf16 and no Triton kernels: expected a study with"
    ) as refused:
        for_card(parse_definition(text, "tiny.yaml"), text, gpu_profile("rtx-2080"), print)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--gpu", "t4"], "got kernels fast and bf16; take --kernel reference --precision fp16 (or none)"),
        (["--gpu", "t4", "--kernel", "reference"], "got bf16;"),
        (["--gpu", "RTX 3060"], "may be any of rtx-3060-8gb (8GB), rtx-3060 (12GB), rtx-3060-laptop (6GB)"),
        (["--gpu", "t4", "--gpu-file", "card.yaml"], "--gpu-file: describes the card itself"),
        (["--gpu-file", "none.yaml"], "none.yaml: expected a description of a GPU"),
        (["--calibrate", "--gpu", "t4"], "leave out --gpu"),
    ],
)
def test_what_predict_refuses(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["predict", "--model", "nano", "--seq", "32", *arguments])
    assert end.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert says in line


def test_a_plan_takes_no_device_beside_a_file(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    card = gpu_profile("rtx-3060").model_dump_json()
    (tmp_path / "card.yaml").write_text(card, encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        main(["--vram", "4GB", "--gpu-file", str(tmp_path / "card.yaml"), "--device", "cpu"])
    assert end.value.code == 2
    assert "--gpu-file: plans for a card, got --device cpu too" in capsys.readouterr().err
