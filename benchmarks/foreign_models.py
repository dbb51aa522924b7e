"""Models that are not ours, as factories: four of `transformers`, four written here in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..tuner.workloads.training import Build, Training

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


class _Encoder(nn.Module):
    """A ViT: patches of 16, blocks of attention and a perceptron, normed before."""

    def __init__(self, side: int, width: int, layers: int, recomputes: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, (side // 16) ** 2 + 1, width))
        self.blocks = nn.ModuleList(_VisionBlock(width) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 1000)
        self.recomputes = recomputes

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], 1) + self.positions
        for block in self.blocks:
            recomputes = self.recomputes and self.training
            x = checkpoint(block, x, use_reentrant=True) if recomputes else block(x)
        head: Tensor = self.head(self.norm(x)[:, 0])
        return head


class _VisionBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // 64
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, 64).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, n, d))
        x = x + self.perceptron(self.norm2(x))
        return x


def vit(build: Build) -> Training:
    layers, width = (12, 768) if build.axes["size"] == "base" else (12, 384)
    side = 224
    with build.device:
        model = _Encoder(side, width, layers, bool(build.axes["checkpointing"]))
    return _classifier(build, model, side)


class _Bottleneck(nn.Module):
    def __init__(self, inner: int, given: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(given, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(inplace=True),
            nn.Conv2d(inner, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(inplace=True),
            nn.Conv2d(inner, 4 * inner, 1, bias=False), nn.BatchNorm2d(4 * inner),
        )  # fmt: skip
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or given != 4 * inner:
            self.skip = nn.Sequential(
                nn.Conv2d(given, 4 * inner, 1, stride, bias=False), nn.BatchNorm2d(4 * inner)
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.body(x)
        made += self.skip(x)
        given: Tensor = self.relu(made)
        return given


class _ResNet(nn.Module):
    """ResNet-50; its stages may be computed again in the backward pass."""

    def __init__(self, recomputes: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        )  # fmt: skip
        given, stages = 64, []
        for stage, blocks in enumerate((3, 4, 6, 3)):
            inner = 64 << stage
            layers = []
            for block in range(blocks):
                layers.append(_Bottleneck(inner, given, 2 if stage and not block else 1))
                given = 4 * inner
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.head = nn.Linear(given, 1000)
        self.recomputes = recomputes

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        for stage in self.stages:
            recomputes = self.recomputes and self.training
            x = checkpoint(stage, x, use_reentrant=False) if recomputes else stage(x)
        head: Tensor = self.head(x.mean((2, 3)))
        return head


def resnet50(build: Build) -> Training:
    side = 224 if build.axes["size"] == "base" else 160
    with build.device:
        model = _ResNet(bool(build.axes["checkpointing"]))
    return _classifier(build, model, side)


class _Double(nn.Sequential):
    def __init__(self, given: int, made: int) -> None:
        super().__init__(
            nn.Conv2d(given, made, 3, padding=1), nn.GroupNorm(8, made), nn.SiLU(),
            nn.Conv2d(made, made, 3, padding=1), nn.GroupNorm(8, made), nn.SiLU(),
        )  # fmt: skip


class _UNet(nn.Module):
    """Four levels down and up again, skips joined; group norm."""

    def __init__(self, width: int, recomputes: bool) -> None:
        super().__init__()
        widths = [width << level for level in range(4)]
        self.down = nn.ModuleList(
            _Double(given, made) for given, made in zip([3, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * made, made, 2, 2) for made in reversed(widths[:-1]))
        self.joined = nn.ModuleList(_Double(2 * made, made) for made in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, 3, 1)
        self.recomputes = recomputes

    def forward(self, x: Tensor) -> Tensor:
        recomputes = self.recomputes and self.training
        kept = []
        for level, block in enumerate(self.down):
            x = F.max_pool2d(x, 2) if level else x
            x = checkpoint(block, x, use_reentrant=False) if recomputes else block(x)
            kept.append(x)
        kept.pop()
        for up, block in zip(self.up, self.joined, strict=True):
            x = torch.cat([up(x), kept.pop()], 1)
            x = checkpoint(block, x, use_reentrant=False) if recomputes else block(x)
        head: Tensor = self.head(x)
        return head


def unet(build: Build) -> Training:
    side, width = 128, 64 if build.axes["size"] == "base" else 32
    with build.device:
        model = _UNet(width, bool(build.axes["checkpointing"]))

    def batch() -> tuple[Tensor, Tensor]:
        shape = build.batch_size, 3, side, side
        return torch.randn(shape, device=build.device), torch.randn(shape, device=build.device)

    def loss(given: tuple[Tensor, Tensor]) -> Tensor:
        return F.mse_loss(model(given[0]), given[1])

    return _training(build, model, batch, loss)


class _Recurrent(nn.Module):
    def __init__(self, width: int, layers: int, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True, dropout=0.1)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        head: Tensor = self.head(self.lstm(self.embedding(tokens))[0])
        return head


def lstm(build: Build) -> Training:
    vocabulary, width = 16384, 1024 if build.axes["size"] == "base" else 512
    with build.device:
        model = _Recurrent(width, 2, vocabulary)

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
