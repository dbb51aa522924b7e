"""The settings file of the Phase 8 workload. Imports no torch, but to train and to generate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, Self

from pydantic import BeforeValidator, PositiveInt, model_validator

from ....kernels.versions import KERNEL_VERSIONS
from ....phase8.config import SIZE_KEYS, Phase8Config, Variant, preset, size_name_of
from ...values.candidate import Candidate, MasterWeights, OptimizerState
from ...workloads.settings import Measured, Predicted, TrainingSettings
from ..size_names import check_model_name, preset_of

if TYPE_CHECKING:
    import torch

    from ...workloads.trainer import Generator, Trainer

_VARIANTS: dict[str, Variant] = {"phase8": "phase8", "phase7": "phase7"}
_LEAST_BYTES = 2 * 4
"""Of a token, layer and channel: a block keeps at least its input and one product, float32."""
_MOST_BYTES = 64 * 4
"""The reference keeps less than this."""


class _Named(Protocol):
    """What names a model: a candidate, or a line of them."""

    @property
    def model(self) -> str: ...

    @property
    def variant(self) -> str: ...

    @property
    def n_seq(self) -> int: ...

    @property
    def vocab_size(self) -> int: ...


def config_of(candidate: _Named) -> Phase8Config:
    """The model that a candidate names, or a line.

    Raises: ValueError, naming the field, for a model or variant that is none.
    """
    if candidate.variant not in _VARIANTS:
        raise ValueError(f"variant: expected one of {', '.join(_VARIANTS)}, got {candidate.variant!r}")
    return preset(
        candidate.model,
        n_seq=candidate.n_seq,
        variant=_VARIANTS[candidate.variant],
        vocab_size=candidate.vocab_size,
    )


def _pair(value: object) -> object:
    """YAML has lists, not tuples."""
    return tuple(value) if isinstance(value, list) else value


class Phase8Settings(TrainingSettings):
    """All that is needed to train a Phase 8 model.

    `use_triton_kernel: false` means the reference version. A key that is left out has the model definition's
    default; `n_heads` and `htt_rank` are then those of the preset with the same d_model and n_layers.
    """

    file_order: ClassVar = (
        *("d_model", "n_layers", "n_seq", "batch_size", "format_version", "workload", "model", "variant"),
        *("n_heads", "htt_rank", "ar_ssm_rank", "window", "vocab_size", "htt_dims", "low_rank_ffn"),
        *("use_triton_kernel", "triton_kernel_version", "gradient_checkpointing", "mixed_precision"),
        *("optimizer_state", "master_weights", "gradient_accumulation"),
        *("measured", "predicted", "verified"),
    )
    shape_keys: ClassVar = (
        *("d_model", "n_layers", "n_seq", "variant", "n_heads", "htt_rank", "ar_ssm_rank"),
        *("window", "vocab_size", "htt_dims", "low_rank_ffn", "optimizer_state", "master_weights"),
    )
    may_differ: ClassVar = (
        "batch_size",
        "triton_kernel_version",
        "gradient_checkpointing",
        "gradient_accumulation",
        "mixed_precision",
    )
    later_keys: ClassVar = {
        **TrainingSettings.later_keys,
        "optimizer_state": "fp32",
        "master_weights": "fp32",
    }

    # What is written is what earlier versions read
    format_version: Literal[1, 2, 3, 4] = 2
    workload: Literal["phase8"] = "phase8"
    variant: Variant = "phase8"
    n_heads: PositiveInt
    htt_rank: PositiveInt
    ar_ssm_rank: PositiveInt = 32
    window: PositiveInt = 64
    htt_dims: Annotated[tuple[PositiveInt, PositiveInt] | None, BeforeValidator(_pair)] = None
    low_rank_ffn: bool = False
    use_triton_kernel: bool = False
    triton_kernel_version: str = "reference"
    optimizer_state: OptimizerState = "fp32"
    master_weights: MasterWeights = "fp32"

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, data: Any) -> Any:
        """The four keys of the seed's recommendations name a preset; its other two numbers come with it."""
        if not isinstance(data, Mapping) or {"n_heads", "htt_rank"} <= data.keys():
            return data
        name = preset_of(data.get("d_model"), data.get("n_layers"))
        if name is None:
            return data
        config = preset(name, n_seq=1)
        return {"model": name, "n_heads": config.n_heads, "htt_rank": config.htt_rank, **data}

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
        check_model_name(self.model, {key: getattr(config, key) for key in SIZE_KEYS})
        return self

    @classmethod
    def of_candidate(
        cls, candidate: Candidate, *, measured: Measured | None, predicted: Predicted | None
    ) -> Self:
        config = config_of(candidate)
        return cls(
            d_model=config.d_model,
            n_layers=config.n_layers,
            n_seq=config.n_seq,
            batch_size=candidate.batch_size,
            model=candidate.model,
            variant=config.variant,
            n_heads=config.n_heads,
            htt_rank=config.htt_rank,
            ar_ssm_rank=config.ar_ssm_rank,
            window=config.window,
            vocab_size=config.vocab_size,
            htt_dims=config.embedding_dims,
            low_rank_ffn=config.low_rank_ffn,
            use_triton_kernel=candidate.kernel_version != "reference",
            triton_kernel_version=candidate.kernel_version,
            gradient_checkpointing=candidate.gradient_checkpointing,
            mixed_precision=candidate.mixed_precision,
            optimizer_state=candidate.optimizer_state,
            master_weights=candidate.master_weights,
            gradient_accumulation=candidate.gradient_accumulation,
            measured=measured,
            predicted=predicted,
        )

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
            optimizer_state=self.optimizer_state,
            master_weights=self.master_weights,
            gradient_accumulation=self.gradient_accumulation,
        )

    def parameter_count(self, vocab_size: int | None = None) -> int:
        vocab_size = self.vocab_size if vocab_size is None else vocab_size
        return self.model_copy(update={"vocab_size": vocab_size}).to_config().parameter_count()

    def gradient_bytes(self) -> int:
        halved = self.to_config().product_count() if self.master_weights == "bf16_sr" else 0
        return super().gradient_bytes() - 2 * halved

    @property
    def computed_with(self) -> str:
        return f"{self.triton_kernel_version} kernels"

    def for_cpu(self) -> tuple[Self, str | None]:
        if self.triton_kernel_version == "reference":
            return self, None
        told = (
            f"the {self.triton_kernel_version} kernels need a GPU: trains on this CPU with the reference "
            "kernels, which compute the same"
        )
        plain = {"use_triton_kernel": False, "triton_kernel_version": "reference"}
        return self.model_copy(update=plain), told

    def activation_bytes(self) -> tuple[int, int]:
        elements = self.batch_size * self.n_seq * self.n_layers * self.d_model
        return elements * _LEAST_BYTES, elements * _MOST_BYTES

    def make_trainer(self, *, seed: int, learning_rate: float, device: torch.device) -> Trainer:
        from ....phase8.training import Trainer as Phase8Trainer
        from ....phase8.training import TrainingOptions

        options = TrainingOptions(
            kernel_version=self.triton_kernel_version,
            gradient_checkpointing=self.gradient_checkpointing,
            mixed_precision=self.mixed_precision,
            optimizer_state=self.optimizer_state,
            master_weights=self.master_weights,
            learning_rate=learning_rate,
            seed=seed,
        )
        return Phase8Trainer(self.to_config(), options, device=device)

    def make_generator(self, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Generator:
        from functools import partial

        from ....phase8.decoding import Decoder, generate
        from ....phase8.model import Phase8Model

        precision = self.mixed_precision if device.type == "cuda" else "none"
        with device:
            model = Phase8Model(self.to_config(), mixed_precision=precision)
        model.load_state_dict(tensors)
        return partial(generate, Decoder(model))
