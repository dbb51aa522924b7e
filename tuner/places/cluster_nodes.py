"""The nodes of a Ray cluster as they come and go, each asked once what it is."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from ..values.errors import DeviceError, UserInputError
from .connection import answers
from .nodes import Model, NodeFacts, Sight, Software, refusal

_LOOK_S = 1.0
_SILENT_S = 20.0
"""After so long without its head a cluster is lost."""
_ASK_S = 120.0
"""How long nodes may take to answer at first: a process is started on each, which imports this package."""
_ID, _TYPE = "ray.io/node-id", "ray.io/accelerator-type"


@dataclass(kw_only=True, slots=True, eq=False)
class Node:
    """A node with GPUs. id: Ray's, another one each time that it joins. refusal: why it does not serve."""

    id: str
    name: str
    gpus: int
    selector: dict[str, str]
    facts: NodeFacts | None = None
    refusal: str | None = None
    is_alive: bool = True
    is_told: bool = False


def _listed() -> list[dict[str, Any]]:
    """All nodes that the cluster has had, as Ray tells them."""
    return ray.nodes()  # type: ignore[no-untyped-call, no-any-return]


def _look_around(sight: Sight, files: Sequence[str]) -> NodeFacts:
    return sight.node(files)


class ClusterNodes:
    """All nodes that have been seen. files: of the user's workloads, which have to be on each.

    Raises: UserInputError where the cluster has no GPU, or none that answers.
    """

    def __init__(self, sight: Sight, files: Sequence[str]) -> None:
        self._files, self._sight = files, sight
        self._driver = Software.here()
        self._model: Model | None = None
        self._nodes: dict[str, Node] = {}
        self._asked: dict[Any, Node] = {}  # by what their answer will be
        self._looked_s, self._heard_s = 0.0, time.monotonic()
        self._head: str = ray.get_runtime_context().gcs_address
        self.is_lost = False
        self._ask()
        if not self._asked:
            raise UserInputError(
                "--cluster: expected a node with a GPU, got none; `ray status` lists what it "
                "has, and `ray start` takes --num-gpus where it finds no GPU by itself"
            )
        ends_s = time.monotonic() + _ASK_S
        while self._asked and time.monotonic() < ends_s:
            self._hear(timeout_s=1.0)
        if not self.facts:
            problems = [f"{node.name}: {node.refusal or 'no answer'}" for node in self._nodes.values()]
            raise UserInputError(f"--cluster: expected a node that can measure, got {'; '.join(problems)}")

    @property
    def facts(self) -> list[NodeFacts]:
        """Of the nodes that are there and may serve."""
        return [node.facts for node in self._serving() if node.facts is not None]

    @property
    def gpus(self) -> int:
        """How many GPUs the nodes have that serve now."""
        return sum(node.gpus for node in self._serving())

    @property
    def is_due(self) -> bool:
        """Whether it is time to look again."""
        return time.monotonic() - self._looked_s >= _LOOK_S

    def settle(self, model: Model) -> None:
        """Only nodes with these GPUs serve from now on."""
        self._model = model
        for node in self._nodes.values():
            if node.facts is not None:
                node.refusal = refusal(node.facts, self._driver, model)

    def look(self) -> list[Node]:
        """Nodes that have joined, answered by now, or left since the last look; each once for each.

        Raises: DeviceError where the cluster's head has gone: Ray would end this process a minute later.
        """
        if not answers(self._head, within_s=_LOOK_S):
            self.is_lost = time.monotonic() - self._heard_s > _SILENT_S
            if self.is_lost:
                raise DeviceError(
                    f"the head of the cluster at {self._head} does not answer any more; what was measured is "
                    "kept: the same command goes on with another cluster"
                )
            return []
        self._heard_s = time.monotonic()
        self._ask()
        self._hear(timeout_s=0)
        changed = []
        for node in list(self._nodes.values()):
            if not node.is_alive:
                del self._nodes[node.id]
                if node.is_told:
                    changed.append(node)
            elif not node.is_told and (node.facts is not None or node.refusal is not None):
                node.is_told = True
                changed.append(node)
        self._looked_s = time.monotonic()
        return changed

    def is_there(self, node: Node) -> bool:
        """Whether a node has not left by now."""
        return any(each["NodeID"] == node.id and each["Alive"] for each in _listed())

    def serving(self, aside: Collection[str]) -> list[Node]:
        """Nodes that may serve, but for those set aside, and those that have not answered yet."""
        waiting = [node for node in self._asked.values() if node.is_alive]
        return [node for node in (*self._serving(), *waiting) if node.id not in aside]

    def _serving(self) -> list[Node]:
        return [n for n in self._nodes.values() if n.is_alive and n.facts is not None and n.refusal is None]

    def _ask(self) -> None:
        """See who is there, and ask those that are new."""
        alive = {each["NodeID"]: each for each in _listed() if each["Alive"]}
        for node in self._nodes.values():
            node.is_alive = node.id in alive
        for each in alive.values():
            gpus = int(each["Resources"].get("GPU", 0))
            if not gpus or each["NodeID"] in self._nodes:
                continue
            labels = {key: value for key in (_ID, _TYPE) if (value := each["Labels"].get(key))}
            name = f"{each['NodeManagerHostname']}-{each['NodeID'][:6]}"
            node = Node(id=each["NodeID"], name=name, gpus=gpus, selector=labels)
            self._nodes[node.id] = node
            asking = ray.remote(_look_around).options(num_cpus=0, max_retries=0, label_selector=labels)
            self._asked[asking.remote(self._sight, self._files)] = node

    def _hear(self, timeout_s: float) -> None:
        if not self._asked:
            return
        done, _ = ray.wait(list(self._asked), num_returns=len(self._asked), timeout=timeout_s)
        for ref in done:
            node = self._asked.pop(ref)
            try:
                node.facts = ray.get(ref)
                node.refusal = refusal(node.facts, self._driver, self._model)
            except RayError as error:
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                node.refusal = f"it could not be asked: {lines[-1] if lines else type(error).__name__}"
        for ref in [ref for ref, node in self._asked.items() if not node.is_alive]:
            del self._asked[ref]
