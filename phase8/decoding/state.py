"""What a Phase 8 model remembers of the tokens it has read: a few tensors of constant size."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..config import Phase8Config


@dataclass(slots=True, kw_only=True)
class DecodingState:
    """The state after `length` positions of B sequences; each step changes its tensors where they lie.

    L layers, H heads of width D, window w, R = ar_ssm_rank. "wide" is float32, or float64 for a float64
    model. Position i has slot i mod w of the window. Source: docs/model.md, Causality.
    """

    length: int
    """Positions read, as the host counts them."""
    position: Tensor
    """The same on the device, [1] int64: what a captured step reads."""
    keys: Tensor
    """[L, B, H, w, D] wide: keys in the compute dtype's values."""
    values: Tensor
    """[L, B, H, w, D] compute dtype."""
    radial: Tensor
    """[L, 3, B, H, w] wide: |k|, min(√c·|k|, 20) and F_k of the keys."""
    resolvents: Tensor
    """[L, B] complex: g of the last position."""
    averages: Tensor
    """[L, B, R] wide: s of the AR-SSM."""
    taps: Tensor
    """[L, 2, B, d] compute dtype: n of the position before the last, and of the last."""
    chain: Tensor | None
    """[B, d] complex: G of the hyperbolic integration; None in phase7, as the next two."""
    hopping: Tensor | None
    """[B, d] wide: b of the last position, the chain's hopping to the next."""
    ranks: Tensor | None
    """[B, R] wide: p of the fusion."""

    @classmethod
    def start(
        cls, config: Phase8Config, batch: int, *, dtype: torch.dtype, wide: torch.dtype, device: torch.device
    ) -> DecodingState:
        """The state before position 0 of `batch` sequences: zeros.

        dtype: the compute dtype; wide: float32 or float64.
        """
        layers, heads, window, d = config.n_layers, config.n_heads, config.window, config.d_model
        head_side = config.variant == "phase8"
        complex_wide = torch.complex128 if wide == torch.float64 else torch.complex64

        def zeros(*shape: int, kind: torch.dtype = wide) -> Tensor:
            return torch.zeros(shape, dtype=kind, device=device)

        return cls(
            length=0,
            position=zeros(1, kind=torch.int64),
            keys=zeros(layers, batch, heads, window, config.head_dim),
            values=zeros(layers, batch, heads, window, config.head_dim, kind=dtype),
            radial=zeros(layers, 3, batch, heads, window),
            resolvents=zeros(layers, batch, kind=complex_wide),
            averages=zeros(layers, batch, config.ar_ssm_rank),
            taps=zeros(layers, 2, batch, d, kind=dtype),
            chain=zeros(batch, d, kind=complex_wide) if head_side else None,
            hopping=zeros(batch, d) if head_side else None,
            ranks=zeros(batch, config.ar_ssm_rank) if head_side else None,
        )

    @property
    def batch(self) -> int:
        return self.keys.shape[1]

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Names and tensors, without those that the variant lacks."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                yield field.name, value

    def size_bytes(self) -> int:
        """Memory of all tensors: B times that of one sequence, whatever the length (and 8 for `position`)."""
        return sum(tensor.numel() * tensor.element_size() for _, tensor in self.tensors())

    def clone(self) -> DecodingState:
        """A copy that shares nothing: two continuations of one text need one each."""
        other = copy.copy(self)
        for name, tensor in self.tensors():
            setattr(other, name, tensor.clone())
        return other
