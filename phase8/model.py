"""The Phase 8 language model: embedding, blocks, head side, tied HTT output."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..kernels.kernel_set import KernelSet, load
from .config import Phase8Config
from .embedding import HTTEmbedding
from .mixers import ARSSMFusion, Block, HyperbolicIntegration, Norm, recomputed

Precision = Literal["bf16", "fp16", "none"]
Checkpointing = Literal["none", "selective", "full"]
"""What a block keeps for its backward pass: all that it reads, its input and its large product, or its input
alone. The head side keeps its input alone, too, unless nothing is computed again."""
_COMPUTE_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Phase8Model(nn.Module):
    """Causal language model over tokens [B, N], N ≤ config.n_seq.

    kernel_version: a name of kernels.versions. mixed_precision: the compute dtype beside the float32 master
    weights ("none": the weights' own dtype, so that `.double()` gives a float64 model).
    gradient_checkpointing: what the backward pass computes again, to the bit, instead of keeping it.
    product_dtype: of the large matrices, which are drawn in float32.

    Source: docs/model.md; parameter counts are `Phase8Config.parameter_count`.
    """

    def __init__(
        self,
        config: Phase8Config,
        *,
        kernel_version: str = "reference",
        mixed_precision: Precision = "none",
        gradient_checkpointing: Checkpointing = "none",
        product_dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.config = config
        self.mixed_precision = mixed_precision
        self.gradient_checkpointing = gradient_checkpointing
        self.kernels: KernelSet = load(kernel_version)
        self.embedding = HTTEmbedding(config, self.kernels)
        is_selective = gradient_checkpointing == "selective"
        self.blocks = nn.ModuleList()
        for _ in range(config.n_layers):
            block = Block(config, self.kernels, is_selective=is_selective)
            _round(block, product_dtype)
            self.blocks.append(block)
        self.norm = Norm(config.d_model)
        head_side = config.variant == "phase8"
        self.integration = HyperbolicIntegration(config, self.kernels) if head_side else None
        self.fusion = ARSSMFusion(config, self.kernels) if head_side else None
        for part in (self.integration, self.fusion):
            if part is not None:
                _round(part, product_dtype)

    @property
    def compute_dtype(self) -> torch.dtype:
        return _COMPUTE_DTYPES.get(self.mixed_precision, self.embedding.core1.dtype)

    def product_weights(self) -> list[nn.Parameter]:
        """The large matrices, which are only multiplied by, in the compute dtype."""
        parts = (self.integration, self.fusion, *self.blocks)
        return [weight for part in parts if part is not None for weight in part.product_weights()]

    def hidden(self, tokens: Tensor) -> Tensor:
        """Hidden states before the output head. tokens [B, N] int64 → [B, N, d] in the compute dtype.

        Raises: ValueError for a sequence longer than config.n_seq.
        """
        if tokens.shape[1] > self.config.n_seq:
            limit, length = self.config.n_seq, tokens.shape[1]
            raise ValueError(f"tokens: expected at most n_seq={limit} positions, got {length}")
        x = self.embedding(tokens, self.compute_dtype)
        for block in self.blocks:
            x, g_re, g_im = recomputed(block, x) if self.gradient_checkpointing == "full" else block(x)
        if self.gradient_checkpointing == "none" or self.integration is None:
            return self._head_side(x, g_re, g_im)
        h: Tensor = recomputed(self._head_side, x, g_re, g_im)
        return h

    def _head_side(self, x: Tensor, g_re: Tensor, g_im: Tensor) -> Tensor:
        """Hidden states from the last block's output and resolvent."""
        h: Tensor = self.kernels.layer_norm(x, self.norm.weight, self.norm.bias)
        if self.integration is not None and self.fusion is not None:
            h = self.fusion(self.integration(h), g_re, g_im)
        return h

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean next-token cross-entropy. tokens, targets [B, N] int64 → float32 scalar."""
        return self.embedding.loss(self.hidden(tokens), targets)

    def logits(self, tokens: Tensor) -> Tensor:
        """Full logits [B, N, V]; about 1 MB a token at V = 50257: for tests and short prompts."""
        h = self.hidden(tokens)
        return self.embedding.logits(h.flatten(0, 1)).view(*h.shape[:2], -1)

    @torch.no_grad()
    def next_token_logits(self, tokens: Tensor) -> Tensor:
        """Logits [B, V] of the token after the last position of tokens [B, N]."""
        return self.embedding.logits(self.hidden(tokens)[:, -1])


def _round(part: Block | HyperbolicIntegration | ARSSMFusion, dtype: torch.dtype) -> None:
    """Give a part's large matrices a dtype. As soon as it is built: what float32 took is the next part's, and
    no small matrix comes to lie in half of it."""
    weights = part.product_weights()
    for weight, rounded in zip(weights, [weight.data.to(dtype) for weight in weights], strict=True):
        weight.data = rounded
