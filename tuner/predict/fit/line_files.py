"""Traced lines as files: compressed JSON columns, written whole or not at all."""

from __future__ import annotations

import json
import zlib
from dataclasses import astuple
from pathlib import Path
from typing import Any

from ...values.atomic_write import write_atomically
from ..trace.events import CATEGORIES, PHASES, Cost, Event, Trace
from ..trace.reductions import Processors, Reduction
from ..trace.scratch import ScratchOf, Sorting
from .line import BatchSizes, Line, Structure

_FORMAT = 3


def read_line(path: Path) -> Line | None:
    """The line of a file, None where there is none or it is damaged or of another format."""
    try:
        data = json.loads(zlib.decompress(path.read_bytes()))
    except (OSError, zlib.error, ValueError):
        return None
    if not isinstance(data, dict) or data.get("format") != _FORMAT:
        return None
    return Line(
        processors=Processors(*data["processors"]),
        structures=[_structure(item) for item in data["structures"]],
        traced={
            int(batch): BatchSizes(
                structure=item["structure"],
                sizes=item["sizes"],
                numbers=item["numbers"],
                costs={name: Cost(*values) for name, values in item["costs"].items()},
            )
            for batch, item in data["traced"].items()
        },
        fitted=None if data["fitted"] is None else (data["fitted"][0], data["fitted"][1]),
    )


def write_line(path: Path, line: Line) -> None:
    """Write a line's file; another process's of the same name is replaced.

    Raises: OSError.
    """
    data = {
        "format": _FORMAT,
        "processors": line.processors,
        "structures": [_columns(structure) for structure in line.structures],
        "traced": {
            batch: {
                "structure": sizes.structure,
                "sizes": sizes.sizes,
                "numbers": sizes.numbers,
                "costs": {name: astuple(cost) for name, cost in sizes.costs.items()},
            }
            for batch, sizes in line.traced.items()
        },
        "fitted": line.fitted,
    }
    write_atomically(path, zlib.compress(json.dumps(data, separators=(",", ":")).encode(), 1))


def _columns(structure: Structure) -> dict[str, Any]:
    ops: dict[str, int] = {}
    parts = [
        [
            [event.slot for event in part],
            [event.size_bytes for event in part],
            [ops.setdefault(event.op, len(ops)) for event in part],
            [PHASES.index(event.phase) for event in part],
            [event.unit for event in part],
        ]
        for part in structure.trace.parts()
    ]
    return {
        "depth": structure.depth,
        "traced_depth": structure.trace.depth,
        "growth": {index: growth for index, growth in enumerate(structure.growth_bytes) if growth},
        "sizes": len(structure.growth_bytes),
        "scratch": [[index, *_fields(scratch)] for index, scratch in structure.scratch.items()],
        "categories": [CATEGORIES.index(category) for category in structure.trace.categories],
        "ops": list(ops),
        "parts": parts,
    }


def _structure(data: dict[str, Any]) -> Structure:
    ops = data["ops"]
    setup, first, repeat, evaluation = (
        [
            Event(slot, size, ops[op], PHASES[phase], unit)
            for slot, size, op, phase, unit in zip(*columns, strict=True)
        ]
        for columns in data["parts"]
    )
    growth = [0] * data["sizes"]
    for index, value in data["growth"].items():
        growth[int(index)] = value
    return Structure(
        trace=Trace(
            depth=data["traced_depth"],
            setup=setup,
            first=first,
            repeat=repeat,
            evaluation=evaluation,
            categories=[CATEGORIES[number] for number in data["categories"]],
        ),
        depth=data["depth"],
        growth_bytes=growth,
        scratch={index: _scratch(*fields) for index, *fields in data["scratch"]},
    )


def _fields(scratch: ScratchOf) -> list[Any]:
    return [type(scratch.source).__name__, scratch.buffer, *scratch.source]


def _scratch(kind: str, buffer: int, *fields: Any) -> ScratchOf:
    if kind == Sorting.__name__:
        return ScratchOf(Sorting(*fields), buffer)
    values: list[Any] = [tuple(f) if isinstance(f, list) else f for f in fields]
    return ScratchOf(Reduction(*values), buffer)
