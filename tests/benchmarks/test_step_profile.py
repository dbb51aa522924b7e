"""Whose time a kernel of a replayed step is, and what a step without a GPU says that it does."""

from __future__ import annotations

from collections import Counter

import pytest

from phase8_tune.benchmarks.step_profile_report import report
from phase8_tune.benchmarks.step_profile_rows import (
    Kernel,
    Work,
    floor_s,
    function_of,
    idle_s,
    one_step,
    rows_of,
)

WORKS = [
    Work(None, 0.0, 8.0, is_matrix=False),
    Work("layer_norm.tiles.forward_kernel", 0.0, 100.0, is_matrix=False),
    Work(None, 50.0, 20.0, is_matrix=True),
    Work("mix_norm.tiles.forward_kernel", 0.0, 300.0, is_matrix=False),
    Work(None, 0.0, 40.0, is_matrix=False),
]
NAMES = [
    "Memcpy DtoD",
    "forward_kernel",
    "nvjet_hsh_128x256",
    "splitKreduce_kernel",
    "forward_kernel_0d1d2",
    "void at",
]
SECONDS = [1.0, 2.0, 3.0, 1.0, 5.0, 0.5]


def replays(count: int, names: list[str] = NAMES) -> list[Kernel]:
    """Kernels one after the other, a quarter of a second between them, the last replay first."""
    found, now = [], 0.0
    for _ in range(count):
        for name, seconds in zip(names, SECONDS, strict=True):
            found.append(Kernel(name, now, now + seconds))
            now += seconds + 0.25
    return found[::-1]


def test_a_time_belongs_to_the_launch_that_has_its_place() -> None:
    rows = {row["label"]: row for row in rows_of(one_step(replays(2), 2), WORKS)}
    assert {label: (row["launches"], row["s"]) for label, row in rows.items()} == {
        "mix_norm.tiles.forward_kernel": (1, 5.0),
        "products after layer_norm.tiles.forward_kernel": (2, 4.0),
        "layer_norm.tiles.forward_kernel": (1, 2.0),
        "others after the step's beginning": (1, 1.0),
        "others after mix_norm.tiles.forward_kernel": (1, 0.5),
    }
    assert next(iter(rows)) == "mix_norm.tiles.forward_kernel"
    assert rows["mix_norm.tiles.forward_kernel"]["moved_bytes"] == 300.0
    product = rows["products after layer_norm.tiles.forward_kernel"]
    assert (product["operations"], product["moved_bytes"], product["is_matrix"]) == (50.0, 20.0, True)
    assert floor_s(product, {"bytes_per_s": 10.0, "flop_per_s": 10.0}) == 5.0
    assert floor_s(rows["layer_norm.tiles.forward_kernel"], {"bytes_per_s": 10.0, "flop_per_s": 10.0}) == 10.0


def test_another_step_than_the_recorded_one_is_told() -> None:
    names = ["Memcpy DtoD", "nvjet", "forward_kernel", "a", "b", "c"]
    with pytest.raises(
        ValueError, match=r"launch 1 of ours: expected \['forward_kernel'\] of 2, got \[\] of 1"
    ):
        rows_of(one_step(replays(1, names), 1), WORKS)


def test_replays_of_which_a_kernel_is_missing_are_told() -> None:
    with pytest.raises(ValueError, match="expected 3 times as many kernels as in a step, got 11"):
        one_step(replays(2)[1:], 3)


def test_idle_seconds_are_those_without_a_kernel() -> None:
    assert idle_s(one_step(replays(1), 1)[0]) == 5 * 0.25
    assert idle_s([Kernel("a", 0.0, 4.0), Kernel("b", 1.0, 2.0), Kernel("c", 5.0, 6.0)]) == 1.0


def test_function_of() -> None:
    assert function_of("forward_kernel_0d1d2") == "forward_kernel"
    assert function_of("gate_backward") == "gate_backward"


def test_the_report_has_every_case_and_its_kernels() -> None:
    rows = rows_of(one_step(replays(2), 2), WORKS)
    case = {
        "tokens": 1000,
        "step_s": 20.0,
        "peak_reserved_bytes": 1 << 20,
        "kernels_a_step": 6,
        "idle_s": 1.25,
    }
    rates = {"bytes_per_s": 10.0, "flop_per_s": 10.0}
    text = report({"ceilings": rates, "cases": {"small-1x1000": case | {"rows": rows}}})
    assert "| small-1x1000 | 50" in text
    assert "`products after layer_norm.tiles.forward_kernel`" in text


def test_a_step_on_the_meta_device_is_noted_in_its_order() -> None:
    """In a process of its own, as Triton's interpreter, under which tests run, launches nothing."""
    import os
    import subprocess
    import sys

    program = (
        "from phase8_tune.benchmarks.step_profile import works_of\n"
        "from phase8_tune.tuner.compiling.dynamo import leave_dynamo_out\n"
        "from phase8_tune.tuner.predict.rate.profiles import gpu_profile\n"
        "leave_dynamo_out()\n"
        "for work in works_of('nano', 1, 64, gpu_profile('h200')):\n"
        "    print(work.kernel, work.operations, work.moved_bytes, work.is_matrix, sep='|')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"TRITON_INTERPRET": "0"}, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.split("|") for line in done.stdout.splitlines()]
    ours = [line[0] for line in lines if line[0] != "None"]
    assert ours[0] == "htt_embedding.gather.gather_kernel"
    assert ours[-1] == "htt_embedding.gather.sum_parts_kernel"
    assert Counter(ours)["mix_norm.tiles.backward_kernel"] == 4  # blocks
    products = [line for line in lines if line[3] == "True" and line[0] == "None"]
    by_block = 2 * 64 * 128 * (3 * 128 + 2 * 32 + 32)  # the input product of 64 tokens
    assert sum(float(line[1]) == by_block for line in products) >= 2 * 4
    assert float(lines[-1][2]) == 40.0 * (505_995 - (512 - 64) * 128)
