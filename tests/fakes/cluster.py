"""Nodes of a cluster whose GPUs are pretended: what they say of themselves, and the fake worker on them.

Everything else is real: Ray, its actors, the measurer and its worker process.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray

from phase8_tune.tuner.places.nodes import CardFacts, NodeFacts, Sight, Software

WORKER = Path(__file__).with_name("worker.py")
CARD = "fake card"


@dataclass
class FakeSight(Sight):
    """options: of the fake worker. By a node's id, others: what of its facts is another than usual, and
    options_of: what options it has besides. software: as where the test runs, whatever is edited there."""

    options: Sequence[str] = ()
    others: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    options_of: Mapping[str, Sequence[str]] = field(default_factory=dict)
    software: Software = field(default_factory=Software.here)

    @property
    def worker_command(self) -> Sequence[str]:
        own = self.options_of.get(ray.get_runtime_context().get_node_id(), ())
        return sys.executable, str(WORKER), "--device=cuda", *self.options, *own

    def node(self, files: Sequence[str]) -> NodeFacts:
        node = ray.get_runtime_context().get_node_id()
        facts = NodeFacts(
            host="host",
            software=self.software,
            triton=None,
            driver=None,
            cards=(card(node, "0"),),
            missing=tuple(file for file in files if not Path(file).exists()),
        )
        return replace(facts, **self.others.get(node, {}))

    def gpu(self, numbers: Sequence[str]) -> str:
        [number] = numbers
        return card(ray.get_runtime_context().get_node_id(), number).uuid


def card(node: str, number: str, name: str = CARD) -> CardFacts:
    """What a node with this id has."""
    return CardFacts(uuid=f"GPU-{node[:8]}-{number}", name=name, total_bytes=1 << 34)
