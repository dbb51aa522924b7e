"""Scratch memory of reductions and sorts: worked out by hand, and as the allocator of an H100 wrote it down.

Measured on an NVIDIA H100 80GB HBM3 (132 multiprocessors of 2048 threads), PyTorch 2.11.0+cu130: the sizes
that its allocation history shows inside sums, means, norms and sorts of training steps.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.predict.trace.reductions import Processors, Reduction, Scratch, scratch_of
from phase8_tune.tuner.predict.trace.scratch import (
    ScratchOf,
    Sorting,
    numbers_of,
    scratch_bytes,
    with_numbers,
)
from phase8_tune.tuner.predict.trace.scratch_rules import SCRATCH

H100 = Processors(multiprocessors=132, threads_per_multiprocessor=2048)
SMALL_GPU = Processors(multiprocessors=48, threads_per_multiprocessor=1536)


def _sum(shape: tuple[int, ...], *reduced: int, item_bytes: int = 4) -> Reduction:
    strides = torch.empty(shape, device="meta").stride()
    return Reduction(shape, strides, 0, reduced, item_bytes, 4)


def test_a_sum_of_everything_by_hand():
    """2^22 numbers to one: 512 threads read 4 at once, 8192 values each, on 528 blocks at once.

    Of 8192 values a thread ⌈8192 / 16⌉ = 512 blocks get 16 each; each writes one float32; one semaphore.
    """
    assert scratch_of(_sum((1 << 22,), 0), H100) == Scratch(4 * 512, 4)


def test_a_sum_over_rows_by_hand():
    """[2^16, 64] over rows: 16 threads side by side for 4 columns each, 8 groups of them a block of 128.

    A thread has 2^16 / 8 = 8192 values; one block of results, 132 · 16 blocks fit: min(2112, 512) = 512
    parts. Every thread writes its 4 numbers: 4 B · 64 · 512 · 16 · 4.
    """
    assert scratch_of(_sum((1 << 16, 64), 0), H100) == Scratch(4 * 64 * 512 * 16 * 4, 4)


@pytest.mark.parametrize("shape", [(64, 64), (4096, 255), (1, 4096)])
def test_a_small_sum_takes_nothing(shape):
    assert scratch_of(_sum(shape, 1), H100) == Scratch(0, 0)


def test_fewer_multiprocessors_make_fewer_parts():
    reduction = _sum((1 << 16, 2048), 0)
    few, many = scratch_of(reduction, SMALL_GPU), scratch_of(reduction, H100)
    assert 0 < few.parts_bytes < many.parts_bytes


def test_order_of_dimensions_does_not_matter():
    """A transposed tensor is reduced as the one it is a view of."""
    given_order = _sum((1 << 14, 96), 0)
    transposed = given_order._replace(shape=(96, 1 << 14), strides=(1, 96), reduced=(1,))
    assert scratch_of(transposed, H100) == scratch_of(given_order, H100)
    assert scratch_of(given_order, H100).parts_bytes > 0


def test_neighbouring_dimensions_are_one():
    assert scratch_of(_sum((128, 256, 96), 0, 1), H100) == scratch_of(_sum((128 * 256, 96), 0), H100)


def test_a_slice_off_its_alignment_is_read_singly():
    """Columns 1 to 64 of 65: neighbours cannot be loaded at once, so a block has other parts."""
    aligned = _sum((1 << 16, 64), 0)
    slid = aligned._replace(strides=(65, 1), offset=1)
    assert scratch_of(slid, H100) != scratch_of(aligned, H100)


def test_what_is_beyond_32_bits_is_reduced_in_pieces():
    """3 GiB are halved: each half's scratch is that of a tensor of its own."""
    whole, half = _sum((3 << 20, 256), 0), _sum((3 << 19, 256), 0)
    assert scratch_of(whole, H100) == scratch_of(half, H100)


@given(
    shape=st.lists(st.integers(1, 150), min_size=1, max_size=4).map(tuple),
    data=st.data(),
    processors=st.sampled_from([H100, SMALL_GPU]),
)
def test_scratch_is_a_whole_number_of_parts(shape, data, processors):
    # (Below 2 GiB: larger ones are reduced in pieces, and not all results belong to one)
    reduced = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1).map(sorted))
    outputs = 1
    for dim, size in enumerate(shape):
        outputs *= 1 if dim in reduced else size
    scratch = scratch_of(_sum(shape, *reduced), processors)
    assert (scratch.parts_bytes > 0) == (scratch.semaphore_bytes > 0)
    assert scratch.parts_bytes % (4 * outputs) == 0
    assert scratch.semaphore_bytes <= 4 * outputs


@pytest.mark.parametrize(
    ("count", "size_bytes"),
    [(8192, 109055), (12288, 159231), (24576, 308735), (32768, 409087), (49152, 608767), (65536, 808447)],
)
def test_a_sort_takes_what_was_measured(count, size_bytes):
    """The embedding's gradients sort int32 rows of `count` tokens."""
    sorting = Sorting(count, key_bytes=4)
    assert scratch_bytes(ScratchOf(sorting, 0), H100) == 8 * count
    assert scratch_bytes(ScratchOf(sorting, 1), H100) == size_bytes


def test_a_small_sort_takes_its_indices_only():
    assert [scratch_bytes(ScratchOf(Sorting(3072, 4), index), H100) for index in (0, 1)] == [24576, 0]


@pytest.mark.parametrize("source", [_sum((5, 6, 7), 0, 2), Sorting(9, 4)])
def test_numbers_make_the_same_operation_again(source):
    assert with_numbers(source, numbers_of(source)) == source
    doubled = with_numbers(source, tuple(2 * number for number in numbers_of(source)))
    assert numbers_of(doubled) == tuple(2 * number for number in numbers_of(source))


def test_operations_say_what_they_reduce():
    """Named dimensions, negative ones, none (all), and a mean's, a norm's and an argmax's."""
    values = torch.empty(4, 6, 8, device="meta", dtype=torch.bfloat16)[1:, :, 2:]

    def reduced(name: str, *arguments: object) -> tuple[tuple[int, ...], int]:
        first = SCRATCH[name]([values, *arguments], None)[0]
        assert isinstance(first, ScratchOf)
        assert isinstance(first.source, Reduction)
        assert (first.source.shape, first.source.strides) == ((3, 6, 6), (48, 8, 1))
        assert (first.source.offset, first.source.item_bytes) == (50, 2)
        return first.source.reduced, first.source.part_bytes

    assert reduced("sum") == ((0, 1, 2), 4)
    assert reduced("sum", [-1, 0]) == ((0, 2), 4)
    assert reduced("mean", [1]) == ((1,), 4)
    assert reduced("linalg_vector_norm", 2, [0]) == ((0,), 4)
    assert reduced("linalg_vector_norm", 2) == ((0, 1, 2), 4)
    assert reduced("argmax", -1) == ((2,), 16)
