"""Which place is meant: the one room that branches between this computer and a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from ..predict.tracers import LocalTracers, Tracers
from ..values.errors import UserInputError
from .cluster import Cluster, all_cores
from .here import Here
from .place import Place


def choose_place(
    *,
    cluster: str | None,
    gpu_model: str | None,
    gpus: str | None,
    device: Literal["auto", "cuda", "cpu"],
) -> Place:
    """This computer, or the cluster at an address, where options name one.

    Raises: UserInputError for options that do not go together, and what `Here` raises.
    """
    if cluster is None:
        if gpu_model is not None:
            raise UserInputError("--gpu-model: chooses among the GPUs of a cluster; expected --cluster too")
        return Here(gpus, device)
    if gpus is not None:
        raise UserInputError(
            "--gpus: names GPUs of this computer, got --cluster too; leave out one, and say with --gpu-model "
            "which of the cluster's are meant"
        )
    if device == "cpu":
        raise UserInputError("--device: expected cuda or auto beside --cluster, which has GPUs, got cpu")
    return Cluster(cluster, gpu_model)


@contextmanager
def tracers_at(cluster: str | None) -> Iterator[Tracers]:
    """Who traces the lines of a plan, beside which nothing is measured: all cores of this computer, or of the
    cluster at an address.

    Raises: UserInputError.
    """
    if cluster is None:
        yield LocalTracers()
        return
    with all_cores(cluster) as tracers:
        yield tracers
