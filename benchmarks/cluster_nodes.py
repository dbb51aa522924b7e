"""A Ray cluster of nodes on one computer, each with pretended GPUs: killed, and added again.

It has a process of its own: Ray ends one that began a cluster a minute after that is gone.
"""

from __future__ import annotations

import contextlib
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

_TRIES = 4
_QUICK = {"health_check_period_ms": 1000, "health_check_failure_threshold": 5}
"""A node that is silent for five seconds has left; by Ray's own settings it is fifteen and more."""
_END_S = 60.0


class _Nodes:
    """A head without GPUs, and nodes with some, in the process that begins them."""

    def __init__(self, gpus_each: int) -> None:
        from ray.cluster_utils import Cluster

        self._gpus_each = gpus_each
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 1,
                "num_gpus": 0,
                "include_dashboard": False,
                "_system_config": _QUICK,
            },
        )
        self._nodes: list[Any] = []

    def ids(self) -> list[str]:
        return [node.node_id for node in self._nodes]

    def add(self) -> None:
        """Tried again where other work of the computer keeps a node from starting in time."""
        cores = max(self._gpus_each // 8, 1)
        for left in reversed(range(_TRIES)):
            try:
                node = self.cluster.add_node(num_cpus=cores, num_gpus=self._gpus_each, wait=False)
                break
            except Exception as error:  # Ray's own has no class
                if not left or "timed out during startup" not in str(error):
                    raise
        self._nodes.append(node)

    def kill(self, number: int) -> None:
        self.cluster.remove_node(self._nodes.pop(number), allow_graceful=False)

    def kill_head(self) -> None:
        head: Any = self.cluster.head_node
        head.kill_all_processes(check_alive=False, allow_graceful=False)


def _serve(orders: Connection, nodes: int, gpus_each: int) -> None:
    """Obey until whoever orders lets go, or is no more."""
    made = _Nodes(gpus_each)
    try:
        for _ in range(nodes):
            made.add()
        orders.send((str(made.cluster.address), made.ids()))
        with contextlib.suppress(EOFError):
            while (order := orders.recv()) is not None:
                name, *arguments = order
                getattr(made, name)(*arguments)
                orders.send((str(made.cluster.address), made.ids()))
    finally:
        made.cluster.shutdown()  # type: ignore[no-untyped-call]


class PretendedCluster:
    """A head without GPUs, and nodes with some; a context that ends all of them.

    ids: Ray's of the nodes that are there.
    """

    def __init__(self, nodes: int, gpus_each: int = 1) -> None:
        context = get_context("spawn")
        self._orders, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, nodes, gpus_each))
        self._process.start()
        theirs.close()
        self.address: str
        self.ids: list[str]
        self.address, self.ids = self._orders.recv()

    def add(self) -> None:
        """One more node."""
        self._ask("add")

    def kill(self, number: int) -> None:
        """End a node as a power cut does: all its processes at once."""
        self._ask("kill", number)

    def kill_head(self) -> None:
        """The same of the node that all others depend on."""
        self._ask("kill_head")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._orders.send(None)
        self._process.join(_END_S)

    def _ask(self, *order: Any) -> None:
        self._orders.send(order)
        self.address, self.ids = self._orders.recv()
