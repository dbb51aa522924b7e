"""What a launch that was left out costs: its class, its arithmetic, its traffic."""

from __future__ import annotations

import pytest
import torch

from phase8_tune.kernels.block import gate
from phase8_tune.kernels.htt_cross_entropy import exponentials
from phase8_tune.kernels.window_attention import banded
from phase8_tune.tuner.predict.trace import launches
from phase8_tune.tuner.predict.trace.cost_classes import MATRIX_KERNELS, is_launch, is_matrix_kernel
from phase8_tune.tuner.predict.trace.launches import kernel_name, launch_costs

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


def test_a_kernel_without_arithmetic_of_note_has_its_traffic_alone() -> None:
    ((name, work, moved),) = launch_costs(
        gate.hidden_kernel, [H, torch.empty(32), H], {"ROWS": 1}, "block_fast"
    )
    assert (name, work) == ("block_fast:block.gate.hidden_kernel", 0)
    assert moved == 2 * 2 * H.numel() + 4 * 32
    assert is_launch(name)
    assert not is_launch("gemm")


def test_every_kernel_that_is_named_exists() -> None:
    """A renamed kernel would silently lose its arithmetic."""
    from importlib import import_module

    named = {*launches._MATRIX, *launches._VECTOR, *launches._EPILOGUES, *launches._PARTLY_READ}
    assert set(launches._MATRIX) == MATRIX_KERNELS
    for name in named:
        folder, module, function = name.split(".")
        kernel = getattr(import_module(f"phase8_tune.kernels.{folder}.{module}"), function)
        assert kernel_name(kernel) == name
