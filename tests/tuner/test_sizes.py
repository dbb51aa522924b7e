"""Sizes and times as users write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.values.sizes import (
    format_budget,
    format_duration,
    format_mb,
    format_size,
    parse_duration,
    parse_size,
)

GB = 2**30


@pytest.mark.parametrize(
    "text",
    ["8GB", "8GiB", "8192MB", "8192MiB", "8G", "8g", "8 GB", " 8gb ", "8.0GB", "8388608K", "8589934592B"],
)
def test_every_way_to_write_eight_gigabytes(text: str) -> None:
    assert parse_size(text) == 8 * GB


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("7.5GB", 7.5 * GB), (".5GB", GB / 2), ("3PB", 3 * 2**50), ("1.3B", 1), ("0.1KB", 102)],
)
def test_fractions_and_large_units(text: str, size_bytes: float) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text",
    [
        *(
            "banana",
            "",
            " ",
            "0",
            "0GB",
            "-1GB",
            "nan",
            "inf",
            "nanGB",
            "infGB",
            "8",
            "GB",
            "8 G B",
            "8GBB",
            "8IB",
        ),
        *("1e3GB", "8,5GB", "0x8GB", "+8GB", "٨GB", "0.9B", "9" * 400 + "GB", "8192PB", "8GB\n8GB"),
    ],
)
def test_refuses_what_is_no_size_in_one_line(text: str) -> None:
    with pytest.raises(UserInputError, match=r"--vram: expected a size such as 8GB") as caught:
        parse_size(text, what="--vram")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@given(st.integers(min_value=1, max_value=2**63 - 1))
def test_parse_undoes_format(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes


@given(st.text(max_size=20))
def test_any_text_is_a_size_or_a_user_error(text: str) -> None:
    lines = 1
    try:
        size_bytes = parse_size(text)
    except UserInputError as error:
        size_bytes, lines = 1, len(str(error).splitlines())
    assert (size_bytes >= 1, lines) == (True, 1)


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(8 * GB, "8GB"), (15 * GB // 2, "7.5GB"), (1023, "1023B"), (1536, "1.5KB")]
)
def test_format_is_short(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


@pytest.mark.parametrize("size_bytes", [0, -1])
def test_format_refuses_what_is_no_size(size_bytes: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        format_size(size_bytes)


def test_a_budget_is_shown_as_typed_or_in_megabytes() -> None:
    assert format_budget(8 * GB) == "8GB"
    assert format_budget(25276510208) == "24,105.56 MB"


def test_table_megabytes_are_two_to_the_twenty() -> None:
    assert format_mb(2**31) == "2,048.00"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("45", 45), ("2 H", 7200), ("1d", 86400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "0m", "-5m", "nan", "inf", "1e9h", "9" * 400, "5w"])
def test_refuses_what_is_no_duration(text: str) -> None:
    with pytest.raises(UserInputError, match="--time: expected a length of time such as 90s"):
        parse_duration(text, what="--time")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (42.4, "42 s"), (185, "3 min 05 s"), (7640, "2 h 07 min")]
)
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
