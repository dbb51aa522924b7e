"""Which configuration of each model is recommended: its fastest that fits."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..values.candidate import DEFAULT_WORKLOAD, Candidate
from ..values.workload_spec import known_spec
from .cells import tied_with
from .frontier import Point


def recommend(points: Iterable[Point]) -> list[Point]:
    """For each model, by its words, the fastest training configuration that fits, smallest first.

    Of those that tie with the fastest of its sequence it is the one with the least memory.
    """
    best: dict[str, Point] = {}
    points = list(points)
    for point in points:
        if not is_trainable(point):
            continue
        name = recommendation_name(point.candidate)
        if name not in best or _goodness(point) > _goodness(best[name]):
            best[name] = point
    chosen = [min(tied_with(point, points), key=_frugality) for point in best.values()]
    return sorted(chosen, key=lambda p: (p.body_parameters, recommendation_name(p.candidate)))


def is_trainable(point: Point) -> bool:
    """Whether it is a training of a model that its workload knows; others are measured to compare."""
    candidate = point.candidate
    is_described = known_spec(candidate.workload) is not None
    return candidate.mode == "train" and is_described and _is_named(candidate)


def has_settings(point: Point) -> bool:
    """Whether a settings file trains it."""
    return point.candidate.spec.settings is not None


def recommendation_name(candidate: Candidate) -> str:
    """The stem of a recommendation's file: `small`, `640x10`, `small-phase7` for the ablation,
    `small-vocab8192`, or `transformer-small` of another workload."""
    of_other = () if candidate.workload == DEFAULT_WORKLOAD else (candidate.workload,)
    return re.sub(r"[^\w.-]+", "_", "-".join((*of_other, *candidate.model_words)))


def _is_named(candidate: Candidate) -> bool:
    """Whether its model is called by the one name that its workload has for it."""
    try:
        return candidate.spec.name_model(candidate.model) == candidate.model
    except ValueError:
        return False


def _frugality(point: Point) -> tuple[int, float, str]:
    return point.peak_bytes, -point.tokens_per_s, point.record.digest


def _goodness(point: Point) -> tuple[float, int, str]:
    return point.tokens_per_s, -point.peak_bytes, point.record.digest
