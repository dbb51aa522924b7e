"""The settings file of the built-in transformer. Imports no torch, but to train and to generate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import PositiveInt, model_validator

from ....phase8.config import preset, size_name
from ...values.axes import AxisValue
from ...values.candidate import Candidate
from ...workloads.settings import Measured, Predicted, TrainingSettings
from ..size_names import check_model_name, preset_of
from .config import Family, TransformerConfig, config_of_family
from .spec import SPEC

if TYPE_CHECKING:
    import torch

    from ...workloads.trainer import Generator, Trainer

_LEAST_BYTES = 4
"""Of a token, layer and channel: a block keeps at least its input, float32."""
_MOST_BYTES = 64 * 4
"""The blocks keep less than this,"""
_MOST_LOGIT_BYTES = 16
"""and a loss less than this of a token and row of the head."""


class TransformerSettings(TrainingSettings):
    """All that is needed to train a transformer.

    A key that is left out has the default of its axis; `n_heads` is then that of the preset with the same
    d_model and n_layers.
    """

    file_order: ClassVar = (
        *("d_model", "n_layers", "n_seq", "batch_size", "format_version", "workload", "model", "family"),
        *("n_heads", "queries_per_kv", "vocab_size", "kernel_version", "loss", "gradient_checkpointing"),
        *("gradient_accumulation", "mixed_precision", "measured", "predicted", "verified"),
    )
    shape_keys: ClassVar = (
        *("d_model", "n_layers", "n_seq", "family", "n_heads", "queries_per_kv", "vocab_size"),
    )
    may_differ: ClassVar = (
        "batch_size",
        "kernel_version",
        "loss",
        "gradient_checkpointing",
        "gradient_accumulation",
        "mixed_precision",
    )

    format_version: Literal[1, 2, 3, 4] = 3
    workload: Literal["transformer"] = "transformer"
    family: Family = "llama"
    n_heads: PositiveInt
    queries_per_kv: PositiveInt = 1
    kernel_version: Literal["eager", "compiled"] = "eager"
    loss: Literal["dense", "chunked", "linear_cross_entropy", "liger"] = "dense"

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or "n_heads" in data:
            return data
        name = preset_of(data.get("d_model"), data.get("n_layers"))
        return data if name is None else {"model": name, "n_heads": preset(name, n_seq=1).n_heads, **data}

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        self.to_config()
        sizes = {"d_model": self.d_model, "n_layers": self.n_layers, "n_heads": self.n_heads}
        check_model_name(self.model, sizes)
        return self

    @classmethod
    def of_candidate(
        cls, candidate: Candidate, *, measured: Measured | None, predicted: Predicted | None
    ) -> Self:
        size = preset(candidate.model, n_seq=candidate.length)
        own: dict[str, Any] = dict(candidate.axes)
        return cls(
            d_model=size.d_model,
            n_layers=size.n_layers,
            n_heads=size.n_heads,
            batch_size=candidate.batch_size,
            model=candidate.model,
            measured=measured,
            predicted=predicted,
            **own,
        )

    def to_config(self) -> TransformerConfig:
        return config_of_family(
            self.family,
            d_model=self.d_model,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            n_seq=self.n_seq,
            vocab_size=self.vocab_size,
            queries_per_kv=self.queries_per_kv,
        )

    def to_candidate(self) -> Candidate | None:
        sizes = {"d_model": self.d_model, "n_layers": self.n_layers, "n_heads": self.n_heads}
        try:
            check_model_name(self.model, sizes)
            name = size_name(self.model)
        except ValueError:  # a name of one's own
            try:
                name = size_name(sizes)
            except ValueError:  # a size that has none
                return None
        return Candidate(workload=self.workload, model=name, batch_size=self.batch_size, axes=self._axes())

    def parameter_count(self, vocab_size: int | None = None) -> int:
        vocab_size = self.vocab_size if vocab_size is None else vocab_size
        return self.model_copy(update={"vocab_size": vocab_size}).to_config().parameter_count()

    @property
    def computed_with(self) -> str:
        return f"{self.kernel_version}, {self.loss} loss"

    def for_cpu(self) -> tuple[Self, str | None]:
        if self.loss != "liger":
            return self, None
        told = "the liger loss needs a GPU: trains on this CPU with the chunked loss, which computes the same"
        return self.model_copy(update={"loss": "chunked"}), told

    def activation_bytes(self) -> tuple[int, int]:
        tokens = self.batch_size * self.n_seq
        elements = tokens * self.n_layers * self.d_model
        logits = tokens * self.to_config().rows
        return elements * _LEAST_BYTES, elements * _MOST_BYTES + logits * _MOST_LOGIT_BYTES

    def make_trainer(self, *, seed: int, learning_rate: float, device: torch.device) -> Trainer:
        from ...workloads.factory_trainer import FactoryTrainer
        from .training import training_of

        trainer = FactoryTrainer(
            training_of(self.to_config(), self._axes(), self.batch_size, device=device, seed=seed), device
        )
        trainer.set_learning_rate(learning_rate)
        return trainer

    def make_generator(self, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Generator:
        from .decoding import TransformerGenerator
        from .model import Transformer

        with device:
            model = Transformer(self.to_config())
        model.load_state_dict(tensors)
        return TransformerGenerator(model, self.mixed_precision if device.type == "cuda" else "none")

    def _axes(self) -> dict[str, AxisValue]:
        return {name: getattr(self, name) for name in SPEC.by_name}
