"""A Ray cluster as a place to measure: which of its GPUs serve, and what of it does the rest.

Imports no Ray before a cluster is opened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from ..measuring.executor import Executor
from ..measuring.gauge import Gauge
from ..measuring.reserve import OtherUse
from ..predict.tracers import Tracers
from ..study.definition import StudyDefinition
from ..workloads.loading import is_own, place_of_name
from ..workloads.spec import kept_specs
from .connection import connected
from .nodes import CardFacts, Model, Sight, choose_model
from .place import CardName, Devices, Job

if TYPE_CHECKING:
    from .cluster_nodes import ClusterNodes

_LEFT_A_GPU = 2
"""Cores of the cluster that are left to each GPU: its worker's, whose steps wait for the host, and Ray's."""


class Cluster:
    """A `Place`: the cluster at this address, or auto; `--gpu-model` says which of its GPUs."""

    kind: Literal["cuda"] = "cuda"
    sight: ClassVar[Sight] = Sight()
    """How nodes look at themselves."""

    def __init__(self, address: str, gpu_model: str | None) -> None:
        self._address, self._gpu_model = address, gpu_model

    @contextmanager
    def opened(
        self, definition: StudyDefinition, *, begun_on: str | None, tell: Callable[[str], None]
    ) -> Iterator[Devices]:
        """The cluster is left after the block, and one that was started here is ended."""
        with connected(self._address) as name:
            from .cluster_nodes import ClusterNodes

            own = [place_of_name(spec.name) for spec in definition.specs if is_own(spec.name)]
            files = [str(Path(place).resolve()) for place in own if place.endswith(".py")]
            nodes = ClusterNodes(self.sight, files)
            model = choose_model(nodes.facts, self._gpu_model, begun_on)
            nodes.settle(model)
            yield _Cards(name, nodes, model, kept_specs(definition.specs), self.sight)


class _Cards:
    """The GPUs of one model that nodes have."""

    kind: Literal["cuda", "cpu"] = "cuda"
    owner = "a GPU of the cluster has"

    def __init__(self, name: str, nodes: ClusterNodes, model: Model, specs: str | None, sight: Sight) -> None:
        self._name, self._nodes, self._model, self._specs, self._sight = name, nodes, model, specs, sight

    @property
    def total_bytes(self) -> int:
        return min(card.total_bytes for card in self._cards())

    def describe(self) -> str:
        count = self._nodes.gpus
        return f"cuda ({count} {'GPU' if count == 1 else 'GPUs'} of {self._name}: {self._model.gpu})"

    def card(self) -> CardName | None:
        return CardName(title=self._model.gpu, total_bytes=self.total_bytes)

    def other_uses(self) -> Sequence[OtherUse | None]:
        return [card.use for card in self._cards()]

    def tracers(self) -> Tracers:
        return _tracers(left=_LEFT_A_GPU * self._nodes.gpus)

    @contextmanager
    def executor(self, job: Job, tell: Callable[[str], None]) -> Iterator[Executor]:
        from .measuring_actor import Order
        from .ray_executor import RayExecutor

        order = Order(
            run=job.root.name,
            budget_bytes=job.budget_bytes,
            reserve_bytes=job.reserve_bytes,
            timing=job.timing,
            outside_bytes=job.outside_bytes,
            checked=tuple(r for r in job.earlier if r.measurement.kernel_check is not None),
            folder=os.getcwd(),
            specs=self._specs,
            sight=self._sight,
        )
        with RayExecutor(self._nodes, order, logs=job.root, tell=tell) as executor:
            yield executor

    def gauges(self) -> Mapping[str, Gauge]:
        return {}

    def _cards(self) -> list[CardFacts]:
        return [card for facts in self._nodes.facts for card in facts.cards]


@contextmanager
def all_cores(address: str) -> Iterator[Tracers]:
    """What traces on every core of a cluster, with GPUs or without; left after the block.

    Raises: UserInputError.
    """
    with connected(address):
        yield _tracers(left=0)


def _tracers(left: int) -> Tracers:
    """left: how many of the cluster's cores are for others."""
    import ray

    from .ray_tracers import RayTracers

    cores = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]
    return RayTracers(max(int(cores) - left, 1))
