"""Models that are not ours, as factories: four of `transformers`, four written here in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..tuner.workloads.training import Build, Training
from .foreign_networks import Recurrent, ResNet, UNet, VisionTransformer

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16, "none": None}


def _training(
    build: Build, model: nn.Module, batch: Callable[[], Any], loss: Callable[..., Tensor]
) -> Training:
    """The common end of all factories: axes precision and optimizer."""
    kind = build.axes["optimizer"]
    parameters = list(model.parameters())
    optimizer: torch.optim.Optimizer
    if kind == "sgd":
        optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)
    else:
        optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=kind == "adamw_fused" or None)
    return Training(
        modules=[model],
        batch=batch,
        optimizers=[optimizer],
        loss=loss,
        autocast=PRECISIONS[str(build.axes["precision"])],
    )


def _of_transformers(build: Build, model: Any, vocabulary: int, names: tuple[str, ...]) -> Training:
    """A model of tokens [B, n_seq] that has its loss itself."""
    if build.axes["checkpointing"]:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    shape = build.batch_size, int(build.axes["n_seq"])

    def batch() -> Tensor:
        return torch.randint(0, vocabulary, shape, device=build.device)

    def loss(tokens: Tensor) -> Tensor:
        found: Tensor = model(**dict.fromkeys(names, tokens)).loss
        return found

    return _training(build, model, batch, loss)


def gpt2(build: Build) -> Training:
    from transformers import GPT2Config, GPT2LMHeadModel

    layers, width = (12, 768) if build.axes["size"] == "base" else (8, 512)
    config = GPT2Config(n_layer=layers, n_embd=width, n_head=width // 64, use_cache=False)
    with build.device:
        model = GPT2LMHeadModel(config)  # type: ignore[no-untyped-call]
    return _of_transformers(build, model, config.vocab_size, ("input_ids", "labels"))


def llama(build: Build) -> Training:
    from transformers import LlamaConfig, LlamaForCausalLM

    layers, width = (12, 768) if build.axes["size"] == "base" else (8, 512)
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=width * 8 // 3 // 64 * 64,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 256 if width % 256 == 0 else 4,
        vocab_size=32000,
        max_position_embeddings=2048,
        use_cache=False,
    )
    with build.device:
        model = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    return _of_transformers(build, model, config.vocab_size, ("input_ids", "labels"))


def bert(build: Build) -> Training:
    from transformers import BertConfig, BertForMaskedLM

    layers, width = (12, 768) if build.axes["size"] == "base" else (8, 512)
    config = BertConfig(
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        max_position_embeddings=1024,
    )
    with build.device:
        model = BertForMaskedLM(config)  # type: ignore[no-untyped-call]
    return _of_transformers(build, model, config.vocab_size, ("input_ids", "labels"))


def t5(build: Build) -> Training:
    from transformers import T5Config, T5ForConditionalGeneration

    layers, width = (8, 768) if build.axes["size"] == "base" else (6, 512)
    config = T5Config(
        d_model=width,
        d_kv=64,
        d_ff=4 * width,
        num_layers=layers,
        num_heads=width // 64,
        use_cache=False,
    )
    config.decoder_start_token_id = 0
    with build.device:
        model = T5ForConditionalGeneration(config)
    return _of_transformers(build, model, config.vocab_size, ("input_ids", "labels"))


def _classifier(build: Build, model: nn.Module, side: int) -> Training:
    """Images [B, 3, side, side] and one of 1000 classes each."""

    def batch() -> tuple[Tensor, Tensor]:
        images = torch.randn(build.batch_size, 3, side, side, device=build.device)
        return images, torch.randint(0, 1000, (build.batch_size,), device=build.device)

    def loss(given: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(given[0]), given[1])

    return _training(build, model, batch, loss)


def vit(build: Build) -> Training:
    layers, width = (12, 768) if build.axes["size"] == "base" else (12, 384)
    side = 224
    with build.device:
        model = VisionTransformer(side, width, layers, bool(build.axes["checkpointing"]))
    return _classifier(build, model, side)


def resnet50(build: Build) -> Training:
    side = 224 if build.axes["size"] == "base" else 160
    with build.device:
        model = ResNet(bool(build.axes["checkpointing"]))
    return _classifier(build, model, side)


def unet(build: Build) -> Training:
    side, width = 128, 64 if build.axes["size"] == "base" else 32
    with build.device:
        model = UNet(width, bool(build.axes["checkpointing"]))

    def batch() -> tuple[Tensor, Tensor]:
        shape = build.batch_size, 3, side, side
        return torch.randn(shape, device=build.device), torch.randn(shape, device=build.device)

    def loss(given: tuple[Tensor, Tensor]) -> Tensor:
        return F.mse_loss(model(given[0]), given[1])

    return _training(build, model, batch, loss)


def lstm(build: Build) -> Training:
    vocabulary, width = 16384, 1024 if build.axes["size"] == "base" else 512
    with build.device:
        model = Recurrent(width, 2, vocabulary)

    def batch() -> Tensor:
        shape = build.batch_size, int(build.axes["n_seq"]) + 1
        return torch.randint(0, vocabulary, shape, device=build.device)

    def loss(tokens: Tensor) -> Tensor:
        scores = model(tokens[:, :-1])
        return F.cross_entropy(scores.reshape(-1, vocabulary), tokens[:, 1:].reshape(-1))

    return _training(build, model, batch, loss)


FACTORIES = {
    "gpt2": gpt2, "llama": llama, "bert": bert, "t5": t5,
    "vit": vit, "resnet50": resnet50, "unet": unet, "lstm": lstm,
}  # fmt: skip
