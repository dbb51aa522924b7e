"""What YAML makes of a text, and what a person meant: numbers are decimal, spaces are plain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.study.definition import parse_definition
from phase8_tune.tuner.training.settings import load_settings
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.values.yaml_dialect import Dumper
from phase8_tune.tuner.values.yaml_reading import parse_mapping

STUDY = """\
name: tiny
axes:
  model: [nano]
  n_seq: [64]
  batch_size: [1, 2]
  kernel_version: [reference]
  gradient_checkpointing: [false]
  mixed_precision: [none]
search: {time_limit_s: 90}
"""
SETTINGS = """\
d_model: 128
n_layers: 4
n_seq: 64
batch_size: 1
low_rank_ffn: false
"""


def refused(read: Callable[[], Any]) -> str:
    with pytest.raises(UserInputError) as caught:
        read()
    (line,) = str(caught.value).splitlines()
    return line


def of_study(given: str, instead: str) -> str:
    assert given in STUDY
    return refused(lambda: parse_definition(STUDY.replace(given, instead, 1), "s.yaml"))


def of_settings(folder: Path, given: str, instead: str) -> str:
    assert given in SETTINGS
    path = folder / "s.yaml"
    path.write_bytes(SETTINGS.replace(given, instead, 1).encode())
    return refused(lambda: load_settings(path)).removeprefix(f"{folder}/")


@pytest.mark.parametrize("number", ["1:30", "010", "0x1F", "0o17", "0b11", "1_000", "1:30.5", "2026-11-28"])
def test_numbers_are_decimal(tmp_path: Path, number: str) -> None:
    what = f"in decimal digits, such as 90, got '{number}'"
    assert of_study("[64]", f"[{number}]") == f"s.yaml: axes.n_seq[0]: expected a whole number {what}"
    assert of_study("90", number) == f"s.yaml: search.time_limit_s: expected a number {what}"
    found = of_settings(tmp_path, "n_seq: 64", f"n_seq: {number}")
    assert found == f"s.yaml: n_seq: expected a whole number {what}"


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "Yes", "NO", "y"])
def test_only_true_and_false_are_true_and_false(tmp_path: Path, word: str) -> None:
    what = f"expected 'none', 'selective' or 'full', got '{word}'"
    assert of_study("[false]", f"[{word}]") == f"s.yaml: axes.gradient_checkpointing[0]: {what}"
    what = f"expected true or false, got '{word}'"
    assert of_settings(tmp_path, "false", word) == f"s.yaml: low_rank_ffn: {what}"


@pytest.mark.parametrize("word", ["no", "2026-11-28", "010"])
def test_where_a_text_belongs_a_word_is_a_text(word: str) -> None:
    assert parse_definition(STUDY.replace("name: tiny", f"name: {word}"), "s.yaml").name == word


def test_a_number_with_an_exponent_needs_no_point() -> None:
    assert parse_mapping("a: 1e-3\nb: -2E+3\nc: .5\nd: +7\n", "x") == {
        "a": 0.001,
        "b": -2e3,
        "c": 0.5,
        "d": 7,
    }


@pytest.mark.parametrize(
    ("given", "instead", "said"),
    [
        ("[64]", '["64"]', "axes.n_seq[0]: expected a whole number without quotes, got '64'"),
        ("[64]", "[!!int 010]", "line 4, column 11: expected valid YAML: expected a decimal int after !!int"),
        ("[64]", "[!!timestamp 2026-11-28]", "line 4, column 11: expected valid YAML: could not determine a"),
        (
            "[64]",
            "[64",
            "line 5, column 13: expected valid YAML, got a list or keys in brackets that do not end",
        ),
        (
            "name: tiny",
            "name: 'tiny",
            "line 10, column 1: expected valid YAML, got a quote that does not end",
        ),
        ("  n_seq", " n_seq", "line 4, column 2: expected valid YAML, got a line that is indented unlike"),
        (
            "tiny\n",
            "tiny\n  n: 3\n",
            "line 2, column 4: expected valid YAML, got a ':' where no key can stand",
        ),
    ],
)
def test_what_is_said_of_other_mistakes(given: str, instead: str, said: str) -> None:
    assert of_study(given, instead).startswith(f"s.yaml: {said}")


@pytest.mark.parametrize(
    ("sign", "name"),
    [
        ("\t", "a tab (U+0009)"),
        ("\xa0", "no-break space (U+00A0)"),
        ("\u3000", "ideographic space (U+3000)"),
        ("\u200b", "zero width space (U+200B)"),
        ("\ufeff", "zero width no-break space (U+FEFF)"),
        ("\u2028", "line separator (U+2028)"),
        ("\x85", "a control sign (U+0085)"),
        ("\x00", "a control sign (U+0000)"),
    ],
)
def test_what_only_looks_like_a_space_is_named_with_its_place(tmp_path: Path, sign: str, name: str) -> None:
    what = f"expected plain spaces, got {name}; replace it by spaces"
    assert of_study("  n_seq", f"{sign} n_seq") == f"s.yaml: line 4, column 1: {what}"
    assert of_study("n_seq: [", f"n_seq:{sign}[") == f"s.yaml: line 4, column 9: {what}"
    assert of_settings(tmp_path, "n_seq: 64", f"n_seq:{sign}64") == f"s.yaml: line 3, column 7: {what}"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_in_quotes_comments_and_line_ends_they_are_welcome(end: str) -> None:
    text = f"\ufeff# a\xa0note{end}a: 'b\xa0c'{end}d: \"\te\" #\tnote{end}f: 1{end}"
    assert parse_mapping(text, "x") == {"a": "b\xa0c", "d": "\te", "f": 1}


@given(
    st.dictionaries(
        st.sampled_from("abcd"),
        st.one_of(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
            st.sampled_from(
                ["1e5", "010", "1:30", "yes", "2026-11-28", "~", "=", "<<", "1_0", "\xa0", ".inf"]
            ),
            st.integers(),
            st.floats(allow_nan=False),
            st.booleans(),
            st.none(),
        ),
    )
)
def test_what_is_written_is_read_back_equal(data: dict[str, Any]) -> None:
    assert parse_mapping(yaml.dump(data, Dumper=Dumper, allow_unicode=True, width=10**6), "x") == data
