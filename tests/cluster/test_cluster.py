"""One study over a real Ray cluster whose GPUs are pretended: who serves, what is lost, what is left."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from phase8_tune.benchmarks.cluster_nodes import PretendedCluster
from phase8_tune.tuner.measuring.executor import Executor
from phase8_tune.tuner.places.choice import tracers_at
from phase8_tune.tuner.places.cluster import Cluster
from phase8_tune.tuner.places.nodes import Software
from phase8_tune.tuner.places.place import Devices, Job
from phase8_tune.tuner.predict.fits import LAUNCH
from phase8_tune.tuner.predict.prediction import Predictor
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.predict.store import PredictionStore
from phase8_tune.tuner.records.journal import read_records
from phase8_tune.tuner.search.progress import SearchEvent, StopReason
from phase8_tune.tuner.search.search import run_search
from phase8_tune.tuner.study.definition import StudyDefinition, parse_definition
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.errors import DeviceError, UserInputError

from ..fakes.cluster import CARD, FakeSight, card

BUDGET_BYTES = 2 << 30
STUDY = """
name: tiny
defaults: {model: nano, kernel_version: reference, gradient_checkpointing: false, mixed_precision: none}
rows:
"""


def rows(count: int) -> StudyDefinition:
    return parse_definition(
        STUDY + "".join(f"  - {{n_seq: {8 * (i + 1)}, batch_size: 1}}\n" for i in range(count)), "tiny"
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[PretendedCluster]:
    with PretendedCluster(2) as made:
        yield made


class Told(list[str]):
    """What the user is told."""

    def about(self, word: str) -> list[str]:
        return [line for line in self if word in line]


@contextmanager
def opened(
    cluster: PretendedCluster,
    monkeypatch: pytest.MonkeyPatch,
    told: Told,
    sight: FakeSight,
    definition: StudyDefinition,
    gpu_model: str | None = None,
) -> Iterator[Devices]:
    monkeypatch.setattr(Cluster, "sight", sight)
    place = Cluster(cluster.address, gpu_model)
    with place.opened(definition, begun_on=None, tell=told.append) as devices:
        yield devices


def job(root: Path, definition: StudyDefinition) -> Job:
    return Job(
        budget_bytes=BUDGET_BYTES,
        reserve_bytes=0,
        root=root,
        timing=definition.timing,
        earlier=(),
        outside_bytes=0,
    )


def search(
    definition: StudyDefinition,
    executor: Executor,
    root: Path,
    on_event: Callable[[SearchEvent], None] = lambda event: None,
) -> StopReason:
    return run_search(definition, executor, root, budget_bytes=BUDGET_BYTES, on_event=on_event).stop_reason


def measured_on(root: Path) -> Counter[str]:
    found = Counter[str]()
    for record in read_records(root / "records.jsonl"):
        assert record.measurement.device is not None
        found[record.measurement.device.uuid or ""] += 1
    return found


def test_one_study_on_all_gpus_whose_logs_come_to_the_run(
    cluster: PretendedCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told, definition, root = Told(), rows(8), tmp_path / "mine"
    with opened(
        cluster, monkeypatch, told, FakeSight(["--takes=0.3", "--says=hello"]), definition
    ) as devices:
        assert devices.describe().startswith(f"cuda (2 GPUs of Ray cluster at {cluster.address}: {CARD})")
        assert devices.total_bytes == 1 << 34
        with devices.executor(job(root, definition), told.append) as executor:
            assert executor.device.uuid is None
            while len(executor.working) < 2:
                executor.wait()
                executor.take()
            assert search(definition, executor, root) is StopReason.EXHAUSTED
        assert gpus_left() == 2
    uuids = {card(node, "0").uuid for node in cluster.ids}
    assert set(measured_on(root)) == uuids
    assert sum(measured_on(root).values()) == 8
    assert {path.name for path in root.glob("*.log")} == {f"worker-{uuid}.log" for uuid in uuids}
    assert all("hello" in path.read_text() for path in root.glob("*.log"))
    assert told == []


def gpus_left() -> float:
    """How many GPUs nobody has, once what was given back has been."""
    free = 0.0
    for _ in range(300):
        free = float(ray.available_resources().get("GPU", 0))
        if free == ray.cluster_resources().get("GPU"):
            break
        time.sleep(0.1)
    return free


def test_an_interrupt_gives_every_gpu_back(
    cluster: PretendedCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told, definition, root = Told(), rows(8), tmp_path / "mine"

    def interrupt(event: SearchEvent) -> None:
        if event.last is not None and event.done == 2:
            raise KeyboardInterrupt

    with opened(cluster, monkeypatch, told, FakeSight(["--takes=0.2"]), definition) as devices:
        with devices.executor(job(root, definition), told.append) as executor:
            assert search(definition, executor, root, interrupt) is StopReason.INTERRUPTED
        assert gpus_left() == 2
    kept = len(read_records(root / "records.jsonl"))
    assert 2 <= kept < 8


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "model": (
        {"cards": (card("other", "0", "NVIDIA Other"),)},
        "NVIDIA Other .* there, and a study is of one",
    ),
    "driver": ({"driver": "1.2"}, r"driver 1\.2.* there, and a study is of one"),
    "torch": (
        {"software": replace(Software.here(), torch="1.0")},
        r"torch 1\.0 there, .* here; install the same",
    ),
    "version": ({"software": replace(Software.here(), phase8_tune="0.0.1")}, r"phase8-tune 0\.0\.1 there"),
    "sources": ({"software": replace(Software.here(), sources="x")}, "other sources of phase8-tune"),
    "files": ({"missing": ("/shared/own.py",)}, "/shared/own.py is not there"),
}


def test_nodes_that_differ_are_named_and_left_alone(
    cluster: PretendedCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One kind of difference after the other, of the same node."""
    definition = rows(2)
    good, other = cluster.ids
    for what, (facts, line) in OTHERS.items():
        told, root = Told(), tmp_path / what
        # Of two models with a GPU each the one is named that is wanted; else their number decides.
        wanted = CARD if what == "model" else None
        sight = FakeSight(others={other: facts, good: {"cards": (card(good, "0"), card(good, "1"))}})
        with (
            opened(cluster, monkeypatch, told, sight, definition, wanted) as devices,
            devices.executor(job(root, definition), told.append) as executor,
        ):
            assert search(definition, executor, root) is StopReason.EXHAUSTED
        assert set(measured_on(root)) == {card(good, "0").uuid}, what
        [said] = told
        assert re.search(rf"^\S+ is left alone: .*{line}", said), said


def test_a_model_that_is_not_there_is_refused_in_one_line(
    cluster: PretendedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        pytest.raises(UserInputError, match=r"--gpu-model: .*fake card.*H200"),
        opened(cluster, monkeypatch, Told(), FakeSight(), rows(1), "H200"),
    ):
        pass


def test_a_node_that_fails_three_times_is_set_aside_and_named(
    cluster: PretendedCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No worker starts there; what it was given is measured on the other."""
    told, definition, root = Told(), rows(6), tmp_path / "mine"
    good, broken = cluster.ids
    sight = FakeSight(["--takes=0.5"], options_of={broken: ["--start=failed"]})
    with (
        opened(cluster, monkeypatch, told, sight, definition) as devices,
        devices.executor(job(root, definition), told.append) as executor,
    ):
        while not told.about("is set aside"):
            executor.wait()
            executor.take()
        assert search(definition, executor, root) is StopReason.EXHAUSTED
    assert set(measured_on(root)) == {card(good, "0").uuid}
    assert len(told.about("failed (no worker could be started")) == 2
    assert len(told.about("is set aside, as it failed 3 times; the last: no worker could be started")) == 1


def test_where_all_nodes_fail_the_search_ends(
    cluster: PretendedCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told, definition = Told(), rows(1)
    with (
        opened(cluster, monkeypatch, told, FakeSight(["--start=exit"]), definition) as devices,
        devices.executor(job(tmp_path, definition), told.append) as executor,
        pytest.raises(DeviceError, match=r"all nodes of the cluster failed; the last: .*no torch"),
    ):
        assert executor.device


def test_lines_are_traced_on_the_cluster_as_they_are_here(cluster: PretendedCluster, tmp_path: Path) -> None:
    line = Candidate(
        model="64x1",
        n_seq=32,
        batch_size=1,
        kernel_version="reference",
        gradient_checkpointing=False,
        mixed_precision="none",
    )
    asked = [(line, (1, 2, 4))]
    profile = gpu_profile("rtx-3060")
    with PredictionStore(tmp_path / "here", processes=1) as store:
        here = Predictor(profile=profile, store=store).look_ahead(asked, BUDGET_BYTES, LAUNCH)
    with (
        tracers_at(cluster.address) as tracers,
        PredictionStore(tmp_path / "there", tracers=tracers) as store,
    ):
        assert Predictor(profile=profile, store=store).look_ahead(asked, BUDGET_BYTES, LAUNCH) == here


def test_a_cluster_that_is_not_there_is_one_line() -> None:
    place = Cluster("127.0.0.1:1", None)
    with (
        pytest.raises(UserInputError, match=r"--cluster 127\.0\.0\.1:1: expected a Ray cluster"),
        place.opened(rows(1), begun_on=None, tell=print),
    ):
        pass


@pytest.mark.parametrize("address", ["ray://host:10001", "host"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with (
        pytest.raises(UserInputError, match="expected auto, or HOST:PORT"),
        Cluster(address, None).opened(rows(1), begun_on=None, tell=print),
    ):
        pass
