"""A Ray cluster of nodes on one computer, each with pretended GPUs: killed, and added again."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, Self

_TRIES = 4
_QUICK = {"health_check_period_ms": 1000, "health_check_failure_threshold": 5}
"""A node that is silent for five seconds has left; by Ray's own settings it is fifteen and more."""


class PretendedCluster:
    """A head without GPUs, and nodes with some; a context that ends all of them."""

    def __init__(self, nodes: int, gpus_each: int = 1) -> None:
        os.environ.setdefault("RAY_LOG_TO_DRIVER", "0")
        from ray.cluster_utils import Cluster

        self._gpus_each = gpus_each
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 1,
                "num_gpus": 0,
                "include_dashboard": False,
                "_system_config": _QUICK,
            },
        )
        self.nodes: list[Any] = []
        for _ in range(nodes):
            self.add()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self) -> Any:
        """One more node; tried again where other work of the computer keeps it from starting in time."""
        cores = max(self._gpus_each // 8, 1)
        for left in reversed(range(_TRIES)):
            try:
                node = self._cluster.add_node(num_cpus=cores, num_gpus=self._gpus_each, wait=False)
                break
            except Exception as error:  # Ray's own has no class
                if not left or "timed out during startup" not in str(error):
                    raise
        self.nodes.append(node)
        return node

    def kill(self, number: int) -> None:
        """End a node as a power cut does: all its processes at once."""
        self._cluster.remove_node(self.nodes.pop(number), allow_graceful=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster.shutdown()  # type: ignore[no-untyped-call]
