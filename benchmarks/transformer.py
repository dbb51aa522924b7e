"""The anchor: a GPT-2-class transformer language model as one would write it today in PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCAB_SIZE = 50257
PADDED_VOCAB = 50304  # a multiple of 64: the head's matrix product stays on the aligned path


class _Block(nn.Module):
    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)
        self.up, self.down = nn.Linear(d_model, 4 * d_model), nn.Linear(4 * d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        batch, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, n, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(heads.transpose(1, 2).reshape(batch, n, d))
        wide = F.gelu(self.up(self.norm2(x)), approximate="tanh")
        out: Tensor = x + self.down(wide)
        return out


class Transformer(nn.Module):
    """Token and position embeddings, pre-norm blocks, tied head; tokens [B, N] → mean cross-entropy."""

    def __init__(self, d_model: int, n_layers: int, n_heads: int, n_seq: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(PADDED_VOCAB, d_model)
        self.positions = nn.Embedding(n_seq, d_model)
        self.blocks = nn.Sequential(*(_Block(d_model, n_heads) for _ in range(n_layers)))
        self.norm = nn.LayerNorm(d_model)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        h = self.norm(self.blocks(self.tokens(tokens) + self.positions(positions)))
        logits = F.linear(h, self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


class TransformerTrainer:
    """bf16 autocast, torch.compile, clipping and fused AdamW around the anchor."""

    def __init__(self, d_model: int, n_layers: int, n_heads: int, n_seq: int) -> None:
        torch.manual_seed(0)
        with torch.device("cuda"):
            self.model = Transformer(d_model, n_layers, n_heads, n_seq)
        self.compiled = torch.compile(self.model, dynamic=False)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)

    def step(self, tokens: Tensor) -> Tensor:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss: Tensor = self.compiled(tokens[:, :-1], tokens[:, 1:].contiguous())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    @torch.no_grad()
    def evaluate(self, tokens: Tensor) -> Tensor:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss: Tensor = self.compiled(tokens[:, :-1], tokens[:, 1:].contiguous())
        return loss
