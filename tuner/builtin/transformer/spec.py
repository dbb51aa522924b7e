"""What is known of the built-in transformer without loading it. Imports no torch: the driver reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from ....phase8.config import PRESETS
from ...values.axes import Axis, AxisValue
from ...values.workload_spec import WorkloadSpec
from ..phase8.spec import model_size, read_model
from ..token_axes import ACCUMULATION, CHECKPOINTING, PRECISION, SEQUENCE, VOCABULARY
from .config import FAMILIES, Family, TransformerConfig, transformer_config


def config_of(model: str, axes: Mapping[str, AxisValue]) -> TransformerConfig:
    """The shape that a candidate's model and settings name. Raises: ValueError, naming what cannot be."""
    return transformer_config(
        model,
        n_seq=int(axes["n_seq"]),
        vocab_size=int(axes["vocab_size"]),
        family=cast(Family, axes["family"]),
        queries_per_kv=int(axes["queries_per_kv"]),
    )


def parameters(model: str, axes: Mapping[str, AxisValue]) -> int:
    """Learned scalars. Raises: as `config_of`."""
    return config_of(model, axes).parameter_count()


def position_parameters(model: str, axes: Mapping[str, AxisValue]) -> int:
    """Learned scalars of the position table. Raises: as `config_of`."""
    return config_of(model, axes).position_count


def obstacle(model: str, axes: Mapping[str, AxisValue]) -> str | None:
    """Why a size cannot be built with these axes."""
    try:
        transformer_config(model, n_seq=int(axes["n_seq"]), queries_per_kv=int(axes["queries_per_kv"]))
    except ValueError as error:
        return str(error)
    return None


SPEC = WorkloadSpec(
    name="transformer",
    title="Transformer",
    items="tokens",
    items_axis="n_seq",
    parts_axis="gradient_accumulation",
    version_axis="kernel_version",
    reference="eager",
    models=tuple(PRESETS),
    read_model=read_model,
    # By the sizes of Phase 8: of the same names, in the same order
    model_size=model_size,
    parameters=parameters,
    position_parameters=position_parameters,
    obstacle=obstacle,
    settings="phase8_tune.tuner.builtin.transformer.settings:TransformerSettings",
    axes=(
        Axis(
            name="family",
            values=FAMILIES,
            default="llama",
            is_of_model=True,
            is_quiet=True,
            title="Family",
        ),
        Axis(
            name="queries_per_kv",
            kind=int,
            minimum=1,
            default=1,
            is_of_model=True,
            is_quiet=True,
            title="Queries a key",
            word="gqa{}",
        ),
        VOCABULARY,
        SEQUENCE,
        Axis(
            name="kernel_version",
            values=("eager", "compiled"),
            default="eager",
            title="Kernels",
            phrase="{} kernels",
            plain="eager",
        ),
        Axis(
            name="loss",
            values=("dense", "chunked", "linear_cross_entropy", "liger"),
            searched=("dense", "chunked"),  # the others round, or need what is not always installed
            default="dense",
            title="Loss",
            phrase="{} loss",
            plain="dense",
        ),
        PRECISION,
        CHECKPOINTING,
        ACCUMULATION,
    ),
)
