"""The guided search: kernel versions are compared in few cells, and one that lost is not tried everywhere."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.records.cells import cell_of
from phase8_tune.tuner.records.frontier import to_points
from phase8_tune.tuner.records.versions import LostVersions, lost_versions
from phase8_tune.tuner.values.candidate import Candidate

from .outlooks import outlook_of
from .test_guided import ANY, MODELS, follow, line, measured, predicted, saturating


def test_versions_are_compared_in_one_cell_of_each_model_and_no_other() -> None:
    outlooks = [
        outlook_of(line(model, n_seq, version), ANY, 64, saturating(1000.0 if version == "fast" else 300.0))
        for model in MODELS
        for n_seq in (256, 512)
        for version in ("reference", "v1", "fast")
    ]
    found = follow(outlooks, predicted(outlooks))
    for version in ("reference", "v1"):
        cells = [cell_of(c) for c in found if c.kernel_version == version]
        assert {model for _, _, (model, *_), _ in cells} == set(MODELS)
        assert len(set(cells)) == 3


def test_a_version_that_lost_in_three_models_is_not_tried_any_more() -> None:
    """v1 is predicted to be nearly as fast everywhere and is not."""
    outlooks = [
        outlook_of(line(model, n_seq, version), (8,), 8, saturating(1000.0 if version == "fast" else 995.0))
        for model in (*MODELS, "large")
        for n_seq in (256, 512, 1024, 2048)
        for version in ("v1", "fast")
    ]
    share = {"fast": 1.0, "v1": 0.5}
    found = follow(outlooks, lambda c: predicted(outlooks)(c) * share[c.kernel_version])
    tried = [c for c in found if c.kernel_version == "v1"]
    assert len(tried) < 16 / 2
    assert lost_versions([]) == {}
    lost = lost_versions(to_points(measured(c, 1000.0 * share[c.kernel_version]) for c in found))
    assert list(lost) == ["v1"]
    assert all(0.4 < loss < 0.6 for loss in lost["v1"].values())
    assert len(lost["v1"]) >= 3


EVERY = [
    line(model, 256, version).at(batch) for model in MODELS for version in ("v1", "fast") for batch in (4, 8)
]


@given(taken=st.lists(st.tuples(st.sampled_from(EVERY), st.sampled_from([1.0, 2.0, 100.0])), max_size=30))
def test_what_lost_so_far_is_what_all_points_say(taken: list[tuple[Candidate, float]]) -> None:
    """Also of those that were measured again, and are faster or slower than they were."""
    lost, points = LostVersions(), {}
    for candidate, rate in taken:
        (points[candidate],) = to_points([measured(candidate, rate)])
        lost.take(points[candidate])
        assert lost.now() == lost_versions(points.values())
