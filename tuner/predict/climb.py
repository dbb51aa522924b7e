"""The largest batch of a ladder that fits, found with few replays: what is live is cheap to ask and nearly
straight in the batch, so that it says where to look."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

_START, _SECOND = 1, 7
"""Places that are asked first: of a range from 1 on, batches of 2 and of 8."""
_SECANTS = 3
_CLOSE = 1 / 16
"""Two guesses that are no further apart than this share are as good as one."""
_FIRST_STRIDE_SHARE = 1 / 64
"""Of the place that is guessed, how far the first stride from it goes: reserved bytes are 1 to 5 % over the
live ones."""


def largest_fitting(
    batches: Sequence[int], cap_bytes: int, live_bytes: Callable[[int], int], fits: Callable[[int], bool]
) -> int:
    """Place of the largest batch that fits, -1 where none does; `batches` ascend, and so do their bytes.

    live_bytes: of a batch, at its peak, at most what it takes. fits: exact, and dear.
    """
    low, high = -1, len(batches)  # fits, does not
    for place in (_START, 0):  # a batch of one has operations of its own, which tell little of others
        if place < high and low < 0:
            if fits(batches[place]):
                low = place
            else:
                high = place
    if high == 0:
        return -1
    place = min(max(_guess(batches[low:high], cap_bytes, live_bytes) + low, low + 1), high - 1)
    stride = max(1, int(place * _FIRST_STRIDE_SHARE))
    did_fit = fits(batches[place])
    while True:  # from the guess on in growing strides, until one goes too far
        low, high = (place, high) if did_fit else (low, place)
        if high - low <= 1:
            return low
        place = min(place + stride, high - 1) if did_fit else max(place - stride, low + 1)
        stride *= 2
        if fits(batches[place]) != did_fit:
            break
    low, high = (low, place) if did_fit else (place, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(batches[middle]) else (low, middle)
    return low


def _guess(batches: Sequence[int], cap_bytes: int, live_bytes: Callable[[int], int]) -> int:
    """Place of the largest batch whose live bytes are within the cap, by secants."""
    low, high = 0, len(batches) - 1
    if high == 0:
        return 0
    at_low = live_bytes(batches[low])
    place = min(high, _SECOND - _START)
    for _ in range(_SECANTS):
        at_high = live_bytes(batches[place])
        growth = (at_high - at_low) / max(batches[place] - batches[low], 1)
        if growth <= 0:
            return len(batches) - 1
        batch = batches[low] + (cap_bytes - at_low) / growth
        found = _last_at_most(batches, batch)
        if abs(found - place) <= place * _CLOSE:
            return found
        if at_high <= cap_bytes:
            low, at_low = place, at_high
        place = found
    return place


def _last_at_most(batches: Sequence[int], limit: float) -> int:
    """Place of the last batch that is at most a limit; the first where none is."""
    low, high = 0, len(batches)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if batches[middle] <= limit else (low, middle)
    return low


def rounded(batch: int) -> int:
    """A rounder batch, at most a thirty-second smaller: a multiple of the largest power of two for that.

    Kernels work in tiles of powers of two, so that it is no slower for what it leaves.
    """
    step = 1
    while step * 2 <= batch / 32:
        step *= 2
    return batch - batch % step


def rounder(batches: Sequence[int], largest: int) -> Iterator[int]:
    """From a batch down: rounder ones of a range, in growing strides; of a few every one."""
    if not isinstance(batches, range):
        yield from (batch for batch in reversed(batches) if batch <= largest)
        return
    batch, stride = largest, max(1, largest // 64)
    while batch >= batches[0]:
        batch = max(rounded(batch), batches[0])
        yield batch
        batch -= stride
        stride *= 2


def rungs(batches: Sequence[int], place: int) -> Iterator[int]:
    """The batches that are worth an answer, ascending: with a range powers of two, the rounder one below the
    largest that fits (at `place`), that itself, and the next; with a few all of them up to there."""
    if place < 0:
        yield batches[0]
        return
    end = min(place + 1, len(batches) - 1)
    if not isinstance(batches, range):
        yield from batches[: end + 1]
        return
    largest = batches[place]
    chosen = {batches[0], rounded(largest), largest, batches[end]}
    power = 1
    while power < largest:
        chosen.add(power)
        power *= 2
    yield from sorted(batch for batch in chosen if batch >= batches[0])
