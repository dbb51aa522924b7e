"""What torch's allocator for CUDA did in some training runs, as its own history says: the tests' fixture.

Every run is a process of its own, as training is. A history is a list of numbers: an allocation is its bytes;
a free −n for the n-th last allocation (1: the last); 0 says that cached segments were given back. Allocations
come from the default stream or another one.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..kernels.device_limits import multiprocessor_count, shared_memory_limit
from ..tuner.machine.sources import sources_digest
from ..tuner.predict.store import MODEL_ROOMS
from ..tuner.values.candidate import Candidate, Precision
from .environment import environment
from .fresh_processes import in_fresh_processes
from .prediction_cases import STEPS, prepare

_MAX_ENTRIES = 3_000_000
_KINDS: tuple[tuple[str, int, int, str, bool, Precision], ...] = (
    ("small", 256, 128, "v1", True, "bf16"),
    ("nano", 256, 48, "v2", True, "fp16"),
    ("base", 256, 32, "v2", True, "bf16"),
    ("nano", 2048, 12, "v2", False, "fp16"),
    ("base", 4096, 12, "v1", False, "bf16"),
    ("xl", 512, 128, "fast", True, "fp16"),
    ("medium", 512, 6, "fast", True, "bf16"),
    ("nano", 256, 8, "reference", False, "bf16"),
)
CASES = tuple(
    Candidate(
        model=model,
        n_seq=n_seq,
        batch_size=batch_size,
        kernel_version=version,
        gradient_checkpointing=checkpointing,
        mixed_precision=precision,
    )
    for model, n_seq, batch_size, version, checkpointing, precision in _KINDS
)
"""Every version, with and without checkpointing, both precisions, short and long sequences."""


class Entry(NamedTuple):
    """One entry of the allocator's trace: action ("alloc", "segment_alloc", …), address, bytes, stream."""

    action: str
    address: int
    size_bytes: int
    stream: int


def record(path: Path) -> None:
    """Store the histories of CASES on this GPU, and for which sources of the model they hold.

    Raises: OSError.
    """
    device = torch.device("cuda", 0)
    properties = torch.cuda.get_device_properties(device)
    write(
        path,
        {
            "environment": environment(),
            "model_sources": sources_digest(MODEL_ROOMS),
            "shared_memory_bytes": shared_memory_limit(device),
            "multiprocessors": multiprocessor_count(device),
            "threads_per_multiprocessor": properties.max_threads_per_multi_processor,
            "cases": in_fresh_processes(recorded, CASES),
        },
    )


def write(path: Path, recording: dict[str, Any]) -> None:
    """Raises: OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(json.dumps(recording, separators=(",", ":")).encode(), 9, mtime=0))


def recorded(candidate: Candidate) -> dict[str, Any]:
    """One run in this process, which has not used the GPU before."""
    torch.cuda.memory._record_memory_history(context=None, max_entries=_MAX_ENTRIES)
    trainer, tokens = prepare(candidate)
    for _ in range(STEPS):
        trainer.step(tokens)
    torch.cuda.synchronize()
    peaks = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    trace = torch.cuda.memory._snapshot()["device_traces"][0]
    return as_case(candidate, [Entry(e["action"], e["addr"], e["size"], e["stream"]) for e in trace], peaks)


def as_case(candidate: Candidate, entries: Sequence[Entry], peaks: tuple[int, int]) -> dict[str, Any]:
    """One run as it is stored; segments: the address of each in MiB from the lowest, in order."""
    addresses = [entry.address for entry in entries if entry.action == "segment_alloc"]
    history, streams = encoded(entries)
    return {
        "candidate": candidate.to_dict(),
        "allocated_bytes": peaks[0],
        "reserved_bytes": peaks[1],
        "history": history,
        "streams": streams,
        "segments": [(address - min(addresses)) >> 20 for address in addresses],
    }


def encoded(entries: Iterable[Entry]) -> tuple[list[int], list[list[int]]]:
    """A history, and its streams: [0 for the default or 1 for another, number of allocations in a row]…"""
    history: list[int] = []
    streams: list[list[int]] = []
    number_at: dict[int, int] = {}
    count = 0
    for entry in entries:
        if entry.action == "alloc":
            number_at[entry.address] = count
            count += 1
            history.append(entry.size_bytes)
            stream = int(entry.stream != 0)
            if not streams or streams[-1][0] != stream:
                streams.append([stream, 0])
            streams[-1][1] += 1
        elif entry.action == "free_completed":
            number = number_at.pop(entry.address, None)
            if number is not None:  # else allocated before the recording
                history.append(number - count)
        elif entry.action == "segment_free" and history[-1:] != [0]:
            history.append(0)
    return history, streams
