"""Networks in plain PyTorch, as they are taught: a ViT, ResNet-50, a U-Net and an LSTM language model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class VisionTransformer(nn.Module):
    """A ViT: patches of 16, blocks of attention and a perceptron, normed before."""

    def __init__(self, side: int, width: int, layers: int, recomputes: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, (side // 16) ** 2 + 1, width))
        self.blocks = nn.ModuleList(VisionBlock(width) for _ in range(layers))
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


class VisionBlock(nn.Module):
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


class ResNet(nn.Module):
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


class _Double(nn.Sequential):
    def __init__(self, given: int, made: int) -> None:
        super().__init__(
            nn.Conv2d(given, made, 3, padding=1), nn.GroupNorm(8, made), nn.SiLU(),
            nn.Conv2d(made, made, 3, padding=1), nn.GroupNorm(8, made), nn.SiLU(),
        )  # fmt: skip


class UNet(nn.Module):
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


class Recurrent(nn.Module):
    def __init__(self, width: int, layers: int, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True, dropout=0.1)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        head: Tensor = self.head(self.lstm(self.embedding(tokens))[0])
        return head
