"""Recommendations as settings files: written, replaced, and removed when they no longer hold.

One file a model, named by it, and one a goal, `goal-<name>.yaml`. Each says in comments why it was chosen.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..records.frontier import Point
from ..records.recommend import recommendation_name
from ..values.atomic_write import write_atomically
from ..values.candidate import Candidate
from ..values.errors import UserInputError
from ..values.measurement import Measurement
from ..values.sizes import MIB, format_budget
from ..values.yaml_dialect import Dumper
from ..workloads.settings import Measured, Predicted, TrainingSettings, settings_class
from .settings import load_settings

_REASON = "#: "
"""How a line begins that says why a file was chosen."""
_GOAL = "goal-"


def settings_of(point: Point) -> TrainingSettings | None:
    """The settings that reproduce a point, with where they come from; None where its workload has none."""
    candidate = point.candidate
    kind = settings_class(candidate.workload)
    if kind is None:
        return None
    is_predicted = point.record.measurement.predicted is not None
    return kind.of_candidate(
        candidate,
        measured=None if is_predicted else _measured(point),
        predicted=_predicted(point) if is_predicted else None,
    )


def _measured(point: Point) -> Measured:
    measurement = point.record.measurement
    device = measurement.device
    if device is None or device.kind == "predicted" or point.tokens_per_s_std is None:
        raise ValueError(f"trial {point.record.trial_number}: expected a measurement with its device")
    return Measured(
        mean_tokens_per_s=round(point.tokens_per_s, 3),
        std_tokens_per_s=round(point.tokens_per_s_std, 3),
        samples=len(measurement.samples_s),
        device_kind=device.kind,
        **_provenance(point),
    )


def _predicted(point: Point) -> Predicted:
    measurement = point.record.measurement
    predicted = measurement.predicted
    if predicted is None or measurement.device is None or measurement.device.kind != "predicted":
        raise ValueError(f"trial {point.record.trial_number}: expected a prediction with its device")
    return Predicted(
        tokens_per_s=round(predicted.tokens_per_s, 3),
        tokens_per_s_low=round(predicted.tokens_per_s_low, 3),
        tokens_per_s_high=round(predicted.tokens_per_s_high, 3),
        limited_by=predicted.limited_by,
        peak_bytes_high=predicted.peak_bytes_high,
        margin=round(predicted.peak_bytes_high / point.peak_bytes - 1, 4),
        fits=predicted.peak_bytes_high <= point.record.budget_bytes,
        spare_bytes=point.record.budget_bytes - predicted.peak_bytes_high,
        ledger={line.name: line.size_bytes for line in measurement.ledger},
        device_kind=measurement.device.kind,
        **_provenance(point),
    )


def _provenance(point: Point) -> dict[str, Any]:
    """What a measured and a predicted point have in common: which record it is, and of what."""
    measurement: Measurement = point.record.measurement
    device, versions = measurement.device, measurement.versions
    if device is None or versions is None or measurement.peak_source is None:
        raise ValueError(
            f"trial {point.record.trial_number}: a success without its device cannot be reproduced"
        )
    return {
        "peak_bytes": point.peak_bytes,
        "peak_source": measurement.peak_source,
        "device": device.name,
        "versions": versions.model_dump(),
        "mode": point.candidate.mode,
        "budget_bytes": point.record.budget_bytes,
        "digest": point.record.digest,
    }


def to_yaml(settings: TrainingSettings, reasons: Sequence[str] = ()) -> str:
    """The text of a settings file: the seed's four keys and comments first, then the rest in order.

    reasons: lines that say why it was chosen (`read_reasons` finds them again).
    """
    data = settings.model_dump(mode="json", exclude_none=True)
    origin = settings.measured or settings.predicted
    if origin is not None:  # an absent library is a fact worth keeping
        data["measured" if settings.measured else "predicted"] = origin.model_dump(mode="json")
    if settings.verified is not None:
        data["verified"] = settings.verified.model_dump(mode="json")
    first = {key: data.pop(key) for key in ("d_model", "n_layers", "n_seq", "batch_size")}
    said = "".join(f"{_REASON}{' '.join(line.split())}\n" for line in reasons)
    return _dump(first) + ("" if origin is None else _comments(origin)) + said + _dump(data)


def read_reasons(text: str) -> list[str]:
    """Why a file was chosen, as its text says."""
    return [line.removeprefix(_REASON) for line in text.splitlines() if line.startswith(_REASON)]


def _comments(origin: Measured | Predicted) -> str:
    kind = "training" if origin.mode == "train" else "forward"
    under = f"{kind}, under a budget of {format_budget(origin.budget_bytes)}"
    if isinstance(origin, Measured):
        return (
            f"# throughput: ~{origin.mean_tokens_per_s:,.0f} tokens/s\n"
            f"# memory: ~{origin.peak_bytes / MIB:,.0f} MB\n"
            f"# measured on {origin.device} (device: {origin.device_kind}), {under}\n"
        )
    return (
        f"# throughput: ~{origin.tokens_per_s:,.0f} tokens/s "
        f"(predicted; {origin.tokens_per_s_low:,.0f} to {origin.tokens_per_s_high:,.0f} in nine of ten)\n"
        f"# memory: ~{origin.peak_bytes / MIB:,.0f} MB "
        f"(predicted; up to {origin.peak_bytes_high / MIB:,.0f} with its margin)\n"
        f"# predicted for {origin.device}, {under}: nothing was measured\n"
    )


def goal_path(folder: Path, goal: str) -> Path:
    """The settings file of a goal's answer."""
    return folder / f"{_GOAL}{goal}.yaml"


def is_goal_file(path: Path) -> bool:
    """Whether a settings file is named as the answer to a goal."""
    return path.stem.startswith(_GOAL)


def write_goals(answers: Mapping[str, tuple[Point, Sequence[str]]], folder: Path) -> list[Path]:
    """Write a settings file for each goal: its point, and the lines that say why. Others are left alone.

    A goal whose point is of a workload without settings files has none, and an earlier file of it is removed.
    Raises: UserInputError where the folder cannot be written.
    """
    texts = {
        goal_path(folder, goal): to_yaml(settings, why)
        for goal, (point, why) in answers.items()
        if (settings := settings_of(point)) is not None
    }
    stale = {goal_path(folder, goal) for goal in answers} - texts.keys()
    return _write(texts, folder, is_stale=stale.__contains__)


def write_recommendations(
    points: Iterable[Point], folder: Path, reasons: Callable[[Point], Sequence[str]] = lambda point: ()
) -> list[Path]:
    """Write a settings file for each point that has one, and remove those of models that are no longer
    recommended.

    reasons: lines that say why. A file of another make (edited to another model, or not ours at all) is left
    alone.
    Raises: UserInputError where the folder cannot be written.
    """
    points = list(points)
    texts = {
        folder / f"{recommendation_name(point.candidate)}.yaml": to_yaml(settings, reasons(point))
        for point in points
        if (settings := settings_of(point)) is not None
    }
    written = _write(texts, folder, is_stale=_is_recommendation)
    return written + [path for point in points for path in _write_others(point.candidate, folder)]


def _write_others(candidate: Candidate, folder: Path) -> list[Path]:
    """What a workload writes of a candidate beside, or instead of, a settings file."""
    module, _, name = (candidate.spec.files or "").partition(":")
    if not module:
        return []
    try:
        written: list[Path] = getattr(importlib.import_module(module), name)(
            folder, recommendation_name(candidate), candidate
        )
    except OSError as error:
        raise _unwritable(folder, error) from error
    return written


def _unwritable(folder: Path, error: OSError) -> UserInputError:
    return UserInputError(
        f"{folder}: cannot write the recommendations: {error.strerror}; choose another place with --runs-dir"
    )


def _write(
    texts: Mapping[Path, str], folder: Path, is_stale: Callable[[Path], bool] = lambda path: False
) -> list[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            write_atomically(path, text)
        for path in sorted(folder.glob("*.yaml")):
            if path not in texts and is_stale(path):
                path.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from error
    return list(texts)


class _Dumper(Dumper):
    """Mappings a key a line, lists such as htt_dims on one line."""

    def represent_list(self, data: Any) -> yaml.SequenceNode:
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)


_Dumper.add_representer(list, _Dumper.represent_list)


def _is_recommendation(path: Path) -> bool:
    """Whether the file is what an earlier run recommended under this name."""
    try:
        settings = load_settings(path)
    except UserInputError:
        return False
    candidate = settings.to_candidate()
    if candidate is None or candidate.model != settings.model:
        return False
    is_ours = settings.measured is not None or settings.predicted is not None
    return is_ours and path.stem == recommendation_name(candidate)


def _dump(data: dict[str, object]) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)
