"""What a launch that was left out costs: its class, its arithmetic, its traffic."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
import torch
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction

from phase8_tune import kernels
from phase8_tune.kernels.adamw import tiles
from phase8_tune.kernels.adamw.codes import BLOCK
from phase8_tune.kernels.adamw.tensors import new_moments
from phase8_tune.kernels.block import gate
from phase8_tune.kernels.htt_cross_entropy import exponentials
from phase8_tune.kernels.window_attention import banded
from phase8_tune.tuner.predict.trace import launches
from phase8_tune.tuner.predict.trace.cost_classes import MATRIX_KERNELS, is_launch, is_matrix_kernel
from phase8_tune.tuner.predict.trace.launches import UnknownKernelError, kernel_name, launch_costs

from .traces import CONFIG, traced

H = torch.empty(64, 32, dtype=torch.bfloat16)
TABLE = torch.empty(512, 32, dtype=torch.bfloat16)


class Descriptor:
    """As triton's TensorDescriptor: the tensor is its base."""

    def __init__(self, base: torch.Tensor) -> None:
        self.base = base


def product(wrap: type) -> list[tuple[str, float, float]]:
    kernel = exponentials.persistent_exponentials_kernel
    given = [wrap(H), wrap(TABLE), wrap(torch.empty(64, 512, dtype=torch.bfloat16))]
    targets, logits, sums = torch.empty(64, dtype=torch.int64), torch.empty(64), torch.empty(64, 2)
    args = [*given, targets, logits, sums, sums, 64, 500, 2, 1]
    return launch_costs(kernel, args, {"D": 32, "BLOCK_V": 256, "num_warps": 8}, "htt_cross_entropy_fast")


def test_a_product_counts_its_flop_and_its_epilogue() -> None:
    (name, flop, moved), (epilogue, operations, none) = product(Descriptor)
    assert name == ("htt_cross_entropy_fast:htt_cross_entropy.exponentials.persistent_exponentials_kernel")
    assert flop == 2 * 64 * 512 * 32
    assert moved == 2 * (64 * 32 + 512 * 32 + 64 * 512) + 8 * 64 + 4 * 64 + 2 * 4 * 128
    assert (epilogue, none) == (f"{name} epilogue", 0)
    assert operations > 64 * 512
    assert is_matrix_kernel(name)
    assert not is_matrix_kernel(epilogue)


def test_attention_counts_the_pairs_that_it_computes() -> None:
    lse = torch.empty(2, 3, 100)

    def operations(window: int, n_seq: int) -> float:
        named = {"lse_ptr": lse, "N": n_seq, "WINDOW": window, "BLOCK": 16}
        return launch_costs(banded.query_kernel, [], named, None)[0][1]

    assert operations(64, 100) / operations(32, 100) == pytest.approx(80 / 48)
    assert operations(64, 20) / operations(32, 20) == 1  # no more than the sequence has


def test_what_a_kernel_barely_reads_is_not_its_traffic() -> None:
    given = {"h": H, "table": TABLE, "exponentials": torch.empty(64, 4096), "losses": torch.empty(64)}
    (_, _, moved), *_ = launch_costs(exponentials.finish_rows_kernel, [], given, None)
    assert moved == 2 * H.numel() + 4 * 64


@pytest.mark.parametrize(("is_8bit", "moved"), [(True, 10), (False, 22)])
def test_a_step_of_the_optimizer_reads_and_writes_what_it_changes(is_8bit: bool, moved: int) -> None:
    """Of bfloat16: the gradient once, the weight and both moments twice."""
    count = 4 * BLOCK
    weight = torch.empty(count, dtype=torch.int16)
    first, second, *peaks = new_moments(weight, is_8bit=is_8bit)
    given = {"weight": weight, "gradient": weight, "first": first, "second": second, "count": count}
    given |= {"first_peaks": peaks[0], "second_peaks": peaks[1], "IS_8BIT": is_8bit}
    ((_, work, traffic),) = launch_costs(tiles.update_kernel, [], given, "adamw_fast")
    assert traffic == moved * count + (2 * 2 * 4 * 4 if is_8bit else 0)
    assert (work > 100 * count) == is_8bit


def test_a_kernel_without_arithmetic_of_note_has_its_traffic_alone() -> None:
    ((name, work, moved),) = launch_costs(
        gate.hidden_kernel, [H, torch.empty(32), H], {"ROWS": 1}, "block_fast"
    )
    assert (name, work) == ("block_fast:block.gate.hidden_kernel", 0)
    assert moved == 2 * 2 * H.numel() + 4 * 32
    assert is_launch(name)
    assert not is_launch("gemm")


KERNEL_TYPES = (JITFunction, InterpretedFunction)


def all_kernels() -> list[Any]:
    """Every Triton function of the package."""
    found = {}
    for module in pkgutil.walk_packages(kernels.__path__, f"{kernels.__name__}."):
        for value in vars(import_module(module.name)).values():
            if isinstance(value, KERNEL_TYPES):
                found[kernel_name(value)] = value
    return list(found.values())


def named_in(kernel: Any) -> Iterator[str]:
    """The Triton functions that a Triton function's body names: what it calls, and what it has a scan do."""
    known = kernel.fn.__globals__
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(kernel.fn)))):
        value = None
        if isinstance(node, ast.Name):
            value = known.get(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            value = getattr(known.get(node.value.id), node.attr, None)
        if isinstance(value, KERNEL_TYPES):
            yield kernel_name(value)


def test_every_kernel_that_is_launched_is_named_once_and_no_other() -> None:
    """One without a name would be an error where it is traced, a renamed one would lose its arithmetic. What
    no other Triton function names is launched."""
    every = all_kernels()
    parts = {name for kernel in every for name in named_in(kernel)}
    launched = {kernel_name(kernel) for kernel in every} - parts
    named = [*launches._MATRIX, *launches._VECTOR, *launches._TRAFFIC_ALONE]
    assert sorted(named) == sorted(launched)
    assert launched.issuperset({*launches._EPILOGUES, *launches._PARTLY_READ})
    assert set(launches._MATRIX) == MATRIX_KERNELS


def test_a_kernel_that_nobody_named_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while a step is traced (of a length that no other test traces: what is known is not launched)."""
    monkeypatch.setattr(launches, "_TRAFFIC_ALONE", frozenset())
    with pytest.raises(UnknownKernelError, match=r"^block\.gate\.hidden_kernel: expected"):
        launch_costs(gate.hidden_kernel, [], {}, "block_fast")
    with pytest.raises(UnknownKernelError, match="_kernel: expected a kernel that is named"):
        traced("fast", config=replace(CONFIG, n_seq=72))
