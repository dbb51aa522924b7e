"""A language model of one's own as a workload: an LSTM that predicts the next byte of a text."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from phase8_tune.tuner.workloads import Axis, Build, Training, WorkloadSpec

WIDTHS = {"narrow": 256, "wide": 1024}
BYTES = 256
SPEC = WorkloadSpec(
    title="Text model",
    items="bytes",
    items_axis="n_seq",
    models=tuple(WIDTHS),
    axes=(
        Axis(name="n_seq", kind=int, default=128, is_ordered=True, is_cell_key=True, title="Sequence"),
        Axis(name="precision", values=("bf16", "none"), default="none"),
    ),
)


class TextModel(nn.Module):
    """Bytes [B, N] → logits [B, N, 256]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BYTES, width)
        self.lstm = nn.LSTM(width, width, num_layers=2, batch_first=True)
        self.head = nn.Linear(width, BYTES)

    def forward(self, text: Tensor) -> Tensor:
        states, _ = self.lstm(self.embedding(text))
        logits: Tensor = self.head(states)
        return logits


def factory(build: Build) -> Training:
    """Models: narrow, wide. Settings: n_seq, precision (bf16 or none)."""
    n_seq = int(build.axes.get("n_seq", 256))
    torch.manual_seed(build.seed)
    with build.device:  # all that is made inside lies there, also where it is a pretended one
        model = TextModel(WIDTHS[build.model])

    def batch() -> Tensor:
        return torch.randint(0, BYTES, (build.batch_size, n_seq + 1)).to(build.device)

    def loss(text: Tensor) -> Tensor:
        logits = model(text[:, :-1])
        return nn.functional.cross_entropy(logits.flatten(0, 1).float(), text[:, 1:].flatten())

    return Training(
        modules=[model],
        batch=batch,
        optimizers=[torch.optim.AdamW(model.parameters(), lr=1e-3)],
        loss=loss,
        autocast=torch.bfloat16 if build.axes.get("precision") == "bf16" else None,
    )
