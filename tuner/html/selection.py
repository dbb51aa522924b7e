"""Which records a page shows: all of a usual study, of a huge one those that matter and a sample."""

from __future__ import annotations

from ..records.cells import best_of_cells, cell_of
from ..records.results import Results
from ..values.record import Record

LARGEST = 3000
"""Records of a page: with plotly's 4.8 MB it stays under 6 MB, at some 300 bytes a record."""
_NEAREST = 0.8  # of the largest number; what is left is for the sample


def select_records(results: Results, largest: int = LARGEST) -> list[Record]:
    """The settled records that a page shows, at most `largest`, in their order.

    First those on the frontier, recommended or best of their model and sequence, then the measured, then what
    comes nearest to the best of its model and sequence; of the rest every n-th.
    """
    if len(results.settled) <= largest:
        return list(results.settled)
    best = best_of_cells(results.points)
    first = {p.record.digest for p in (*results.frontier, *results.recommended, *best.values())}
    nearness = {
        p.record.digest: p.tokens_per_s / best[cell_of(p.candidate)].tokens_per_s for p in results.points
    }

    def rank(record: Record) -> tuple[bool, bool, float]:
        is_measured = record.attempt > 0
        return record.digest not in first, not is_measured, -nearness.get(record.digest, 0.0)

    ordered = sorted(results.settled, key=rank)
    whole = sum(record.digest in first or record.attempt > 0 for record in ordered)
    nearest = min(max(whole, int(largest * _NEAREST)), largest)
    rest = ordered[nearest:]
    room = largest - nearest
    sample = [rest[index * len(rest) // room] for index in range(room)]
    kept = {record.digest for record in (*ordered[:nearest], *sample)}
    return [record for record in results.settled if record.digest in kept]
