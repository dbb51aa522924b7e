"""What is known of the Phase 8 workload without loading it. Imports no torch: the driver reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ....kernels.versions import KERNEL_VERSIONS
from ....phase8.config import PRESETS, is_size_name, preset, size_name
from ...values.axes import Axis, AxisValue
from ...values.nearest import nearest
from ...values.workload_spec import WorkloadSpec
from ..token_axes import ACCUMULATION, CHECKPOINTING, PRECISION, SEQUENCE, VOCABULARY

_SIZE = "model: "  # before what is wrong with the name, and not with a key of it


def read_model(value: object) -> object:
    """The name of a size that was given by a name in any spelling, or by a mapping of its numbers.

    Whatever else it is comes back, to be refused as what no name can be.
    Raises: ValueError, one line that names the key which is wrong.
    """
    if not isinstance(value, str | Mapping):
        return value
    try:
        return size_name(value)
    except ValueError as error:
        text = " ".join(str(error).split()).removeprefix(_SIZE)
        meant = nearest(value, PRESETS) if isinstance(value, str) else None
        raise ValueError(text + ("" if meant is None else f"; did you mean {meant}?")) from None


def model_size(model: str) -> float:
    """Learned scalars of a size, by which sizes are put in order; infinite for what names none."""
    return preset(model, n_seq=1).parameter_count() if is_size_name(model) else float("inf")


def parameters(model: str, axes: Mapping[str, AxisValue]) -> int:
    """Learned scalars of a model.

    Raises: ValueError for what names no size.
    """
    return preset(
        model,
        n_seq=int(axes["n_seq"]),
        vocab_size=int(axes["vocab_size"]),
        variant="phase7" if axes["variant"] == "phase7" else "phase8",
    ).parameter_count()


def position_parameters(model: str, axes: Mapping[str, AxisValue]) -> int:
    """Learned scalars of the position table.

    Raises: ValueError for what names no size.
    """
    return preset(model, n_seq=int(axes["n_seq"])).position_count


def installed() -> tuple[str, ...]:
    """The kernel versions of this installation."""
    return tuple(KERNEL_VERSIONS)


SPEC = WorkloadSpec(
    name="phase8",
    title="Phase 8",
    items="tokens",
    items_axis="n_seq",
    parts_axis="gradient_accumulation",
    version_axis="kernel_version",
    reference="reference",
    is_checked=True,
    optimizer_axes=("optimizer_state", "master_weights"),
    installed=installed,
    models=tuple(PRESETS),
    read_model=read_model,
    model_size=model_size,
    parameters=parameters,
    position_parameters=position_parameters,
    settings="phase8_tune.tuner.builtin.phase8.settings:Phase8Settings",
    axes=(
        Axis(
            name="variant",
            values=("phase8", "phase7"),
            default="phase8",
            is_of_model=True,
            is_quiet=True,
            title="Variant",
            plain="phase7",
        ),
        replace(VOCABULARY, is_later=True),
        SEQUENCE,
        Axis(
            name="kernel_version",
            values=("reference", "v1", "v2", "fast"),
            title="Kernels",
            phrase="{} kernels",
            plain="reference",
        ),
        replace(PRECISION, default=None),
        replace(CHECKPOINTING, default=None),
        Axis(
            name="optimizer_state",
            values=("fp32", "8bit"),
            searched=("fp32",),
            default="fp32",
            is_later=True,
            is_quiet=True,
            title="Optimizer state",
            word="{} state",
            phrase="{} optimizer state",
            plain="fp32",
        ),
        Axis(
            name="master_weights",
            values=("fp32", "bf16_sr"),
            searched=("fp32",),
            default="fp32",
            is_later=True,
            is_quiet=True,
            title="Weights",
            word="{} weights",
            phrase="{} weights",
            plain="fp32",
        ),
        ACCUMULATION,
    ),
    # As candidates were written since there are any.
    file_order=(
        *("workload", "model", "variant", "n_seq", "batch_size", "kernel_version"),
        *("gradient_checkpointing", "mixed_precision", "mode", "vocab_size"),
        *("optimizer_state", "master_weights", "gradient_accumulation"),
    ),
)
