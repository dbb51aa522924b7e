"""The settings file that the tuner recommends and `phase8-train` reads: strict, and free of torch.

It begins with d_model, n_layers, n_seq and batch_size; those four alone are a valid file for a size that is
a preset. `measured` or `predicted` says where the recommendation comes from; nothing is computed from either.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from ...kernels.versions import KERNEL_VERSIONS
from ...phase8.config import PRESETS, SIZE_KEYS, Phase8Config, Variant, is_size_name, preset, size_name_of
from ..values.candidate import Candidate
from ..values.errors import UserInputError
from ..values.format_versions import later_format
from ..values.measurement import Border
from ..values.nearest import nearest
from ..values.yaml_reading import explain, parse_mapping, read_text_file

FORMAT_VERSION: Final = 2
_MISTYPED = 0.81  # of `nearest`: nanoo and smal are, xxl is not; nano2 and my-small are names of one's own

Precision = Literal["bf16", "fp16", "none"]


def _pair(value: object) -> object:
    """YAML has lists, not tuples."""
    return tuple(value) if isinstance(value, list) else value


class Measured(Border):
    """Where a recommendation comes from: one record, named by its digest. Checked by type only."""

    mean_tokens_per_s: float
    std_tokens_per_s: float
    samples: int
    peak_bytes: int
    peak_source: str
    device: str
    device_kind: Literal["cuda", "cpu"]
    versions: dict[str, str | None]
    mode: Literal["train", "forward"]
    budget_bytes: int
    digest: str


class Predicted(Border):
    """Where a recommendation comes from that nobody measured: one recorded prediction, named by its digest.

    tokens_per_s lies in its interval nine times of ten; the peak lies within `margin`, and `peak_bytes_high`
    is the peak with it. ledger: bytes by line. Checked by type only.
    """

    tokens_per_s: float
    tokens_per_s_low: float
    tokens_per_s_high: float
    limited_by: str
    peak_bytes: int
    peak_bytes_high: int
    peak_source: str
    margin: float
    fits: bool
    spare_bytes: int
    ledger: dict[str, int]
    device: str
    device_kind: Literal["predicted"]
    versions: dict[str, str | None]
    mode: Literal["train", "forward"]
    budget_bytes: int
    digest: str


class Verified(Border):
    """What `phase8-tune verify --write` found in processes of their own. Checked by type only."""

    tokens_per_s: float
    peak_bytes: int
    peak_source: str
    held: bool
    device: str
    device_kind: Literal["cuda", "cpu"]
    versions: dict[str, str | None]
    steps: int
    steady_s: float


class TrainingSettings(Border):
    """All that is needed to train with a recommended configuration, in the order of the file.

    `use_triton_kernel: false` means the reference version. A key that is left out has the model definition's
    default; `n_heads` and `htt_rank` are then those of the preset with the same d_model and n_layers.

    Raises: pydantic.ValidationError for a key or a combination that is not understood.
    """

    d_model: PositiveInt
    n_layers: PositiveInt
    n_seq: PositiveInt
    batch_size: PositiveInt
    format_version: Literal[1, 2] = FORMAT_VERSION
    workload: Literal["phase8"] = "phase8"
    model: str = Field(default="custom", min_length=1)
    variant: Variant = "phase8"
    n_heads: PositiveInt
    htt_rank: PositiveInt
    ar_ssm_rank: PositiveInt = 32
    window: PositiveInt = 64
    vocab_size: PositiveInt = 50257
    htt_dims: Annotated[tuple[PositiveInt, PositiveInt] | None, BeforeValidator(_pair)] = None
    low_rank_ffn: bool = False
    use_triton_kernel: bool = False
    triton_kernel_version: str = "reference"
    gradient_checkpointing: bool = False
    mixed_precision: Precision = "none"
    measured: Measured | None = None
    predicted: Predicted | None = None
    verified: Verified | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, data: Any) -> Any:
        """The four keys of the seed's recommendations name a preset; its other two numbers come with it."""
        if not isinstance(data, Mapping) or {"n_heads", "htt_rank"} <= data.keys():
            return data
        for name in PRESETS:
            config = preset(name, n_seq=1)
            if (config.d_model, config.n_layers) == (data.get("d_model"), data.get("n_layers")):
                return {"model": name, "n_heads": config.n_heads, "htt_rank": config.htt_rank, **data}
        return data

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.triton_kernel_version not in KERNEL_VERSIONS:
            known = ", ".join(KERNEL_VERSIONS)
            raise ValueError(
                f"triton_kernel_version: expected one of {known}, got {self.triton_kernel_version!r}"
            )
        if self.use_triton_kernel == (self.triton_kernel_version == "reference"):
            expected = "a Triton version" if self.use_triton_kernel else "'reference'"
            raise ValueError(
                f"triton_kernel_version: expected {expected} with use_triton_kernel: "
                f"{str(self.use_triton_kernel).lower()}, got {self.triton_kernel_version!r}"
            )
        config = self.to_config()
        is_known = is_size_name(self.model)
        is_own = is_known or not self.model.isalpha()
        meant = None if is_own else nearest(self.model, PRESETS, alike=_MISTYPED)
        if meant is not None:
            raise ValueError(
                f"model: expected {meant}, or a name unlike a preset's, got {self.model!r}; correct it"
            )
        if is_known:
            named = preset(self.model, n_seq=self.n_seq, variant=self.variant)
            for key in SIZE_KEYS:
                if getattr(config, key) != getattr(named, key):
                    raise ValueError(
                        f"{key}: expected {getattr(named, key)} for model: {self.model} "
                        f"(or another name for model), got {getattr(config, key)}"
                    )
        return self

    def to_config(self) -> Phase8Config:
        """The model's configuration.

        Raises: ValueError, naming the field, for a shape that cannot be built.
        """
        return Phase8Config(
            d_model=self.d_model,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            n_seq=self.n_seq,
            htt_rank=self.htt_rank,
            ar_ssm_rank=self.ar_ssm_rank,
            window=self.window,
            vocab_size=self.vocab_size,
            htt_dims=self.htt_dims,
            low_rank_ffn=self.low_rank_ffn,
            variant=self.variant,
        )

    def to_candidate(self) -> Candidate | None:
        """What the tuner would call this training; None for a model that it has no name for."""
        name = size_name_of(self.to_config())
        if name is None:
            return None
        return Candidate(
            model=name,
            variant=self.variant,
            n_seq=self.n_seq,
            batch_size=self.batch_size,
            kernel_version=self.triton_kernel_version,
            gradient_checkpointing=self.gradient_checkpointing,
            mixed_precision=self.mixed_precision,
            vocab_size=self.vocab_size,
        )


def load_settings(path: Path) -> TrainingSettings:
    """Read and check a settings file.

    Raises: UserInputError, one line, where the file is missing, unreadable, not understood, or made by a
    later version of this program.
    """
    data = parse_mapping(read_text_file(path, "settings file"), str(path))
    if later := later_format(data, FORMAT_VERSION):
        raise UserInputError(f"{path}: {later}")
    try:
        return TrainingSettings.model_validate(data)
    except ValidationError as error:
        raise explain(error, str(path), TrainingSettings) from None
