"""The BK scan as a custom op: one definition for every version, which differ in how they cut a chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..device_limits import require_triton_device
from ..segments import Segmentation, maps_shape, require_float32
from .maps import adjoint_maps, resolvent_maps
from .resolvent import resolvent_backward, resolvent_forward
from .responses import ADJOINT, RESPONSE

TOKENS = 8
"""Tokens loaded at once, and the unit of a segment's length."""

Rule = Callable[[int, int, int], Segmentation]
"""(batch, n_seq, chains a row) → how a program cuts its chains."""
LongRule = Callable[[int, int], Segmentation | None]
"""(n_seq, chains a row) → how long rows are cut into chunks, as the rule has it; None for the others."""
Scan = Callable[[Tensor, Tensor | None, Tensor, Tensor], tuple[Tensor, Tensor]]


def define_bk_scan(version: str, rule: Rule, long_rule: LongRule) -> Scan:
    """Register phase8::bk_scan_<version> and its backward, and return the public function over them.

    Saved for backward: g (8 bytes an element) and hopping.
    """

    def sizes(x: Tensor) -> tuple[int, int, int]:
        return x.shape[0], x.shape[1], x.shape[2] if x.dim() == 3 else 1

    def new_maps(x: Tensor, numbers: int) -> Tensor:
        batch, n_seq, chains = sizes(x)
        return x.new_empty(maps_shape(long_rule(n_seq, chains), batch, numbers, chains))

    def new_grad_energy(x: Tensor) -> Tensor:
        batch, n_seq, chains = sizes(x)
        cut = long_rule(n_seq, chains)
        return x.new_empty(2, 1 if cut is None else cut.chunks, batch, chains)

    def launch(
        scan: Any,
        reduce: Any,
        hopping: Tensor | None,
        inputs: tuple[Tensor, ...],
        maps: Tensor,
        *outputs: Tensor,
    ) -> None:
        batch, n_seq, chains = sizes(inputs[0])
        cut = rule(batch, n_seq, chains)
        grid = (-(-chains // cut.block), batch, cut.chunks)
        constants = {
            "HAS_HOPPING": hopping is not None,
            "SEGMENTS": cut.segments,
            "BLOCK": cut.block,
            "TOKENS": TOKENS,
            "num_warps": cut.num_warps,
        }
        if cut.chunks > 1:
            reduce[grid](*inputs, maps, n_seq, chains, cut.length, **constants)
        scan[grid](
            *inputs, maps, *outputs, n_seq, chains, cut.length, CHUNKED=cut.chunks > 1, **constants
        )  # fmt: skip

    @torch.library.custom_op(
        f"phase8::bk_scan_{version}",
        mutates_args=(),
        schema="(Tensor onsite, Tensor? hopping, Tensor energy_re, Tensor energy_im)"
        " -> (Tensor, Tensor, Tensor)",
    )
    def forward(
        onsite: Tensor, hopping: Tensor | None, energy_re: Tensor, energy_im: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Re g, Im g, and the scratch of the kernels: the maps of segments."""
        onsite = onsite.contiguous()
        hopping = None if hopping is None else hopping.contiguous()
        g_re, g_im, maps = torch.empty_like(onsite), torch.empty_like(onsite), new_maps(onsite, RESPONSE)
        inputs = (onsite, onsite if hopping is None else hopping, energy_re, energy_im)
        launch(resolvent_forward, resolvent_maps, hopping, inputs, maps, g_re, g_im)
        return g_re, g_im, maps

    @forward.register_fake
    def _(onsite: Tensor, hopping: Tensor | None, energy_re: Tensor, energy_im: Tensor) -> Any:
        return onsite.new_empty(onsite.shape), onsite.new_empty(onsite.shape), new_maps(onsite, RESPONSE)

    @torch.library.custom_op(
        f"phase8::bk_scan_{version}_backward",
        mutates_args=(),
        schema="(Tensor grad_re, Tensor grad_im, Tensor g_re, Tensor g_im, Tensor? hopping)"
        " -> (Tensor, Tensor, Tensor, Tensor)",
    )
    def backward(
        grad_re: Tensor, grad_im: Tensor, g_re: Tensor, g_im: Tensor, hopping: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradients of onsite, of hopping (empty without), and of the energy by chain [2, chunks, B, C]; the
        maps of segments."""
        hopping = None if hopping is None else hopping.contiguous()
        grad_onsite = torch.empty_like(g_re)
        grad_hopping = g_re.new_empty(0 if hopping is None else g_re.shape)
        grad_energy, maps = new_grad_energy(g_re), new_maps(g_re, ADJOINT)
        gradients = (grad_re.contiguous(), grad_im.contiguous())
        inputs = (*gradients, g_re, g_im, g_re if hopping is None else hopping)
        launch(
            resolvent_backward, adjoint_maps, hopping, inputs, maps, grad_onsite, grad_hopping, grad_energy
        )
        return grad_onsite, grad_hopping, grad_energy, maps

    @backward.register_fake
    def _(grad_re: Tensor, grad_im: Tensor, g_re: Tensor, g_im: Tensor, hopping: Tensor | None) -> Any:
        grad_hopping = g_re.new_empty(0 if hopping is None else g_re.shape)
        return g_re.new_empty(g_re.shape), grad_hopping, new_grad_energy(g_re), new_maps(g_re, ADJOINT)

    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[2])
        ctx.save_for_backward(*output[:2], inputs[1])

    def differentiate(ctx: Any, grad_re: Tensor, grad_im: Tensor, _: Tensor) -> Any:
        g_re, g_im, hopping = ctx.saved_tensors  # read once: checkpointing allows no more
        grad_onsite, grad_hopping, by_chain, _ = backward(grad_re, grad_im, g_re, g_im, hopping)
        grad_energy = by_chain.flatten(1).sum(1)
        return grad_onsite, None if hopping is None else grad_hopping, grad_energy[0], grad_energy[1]

    forward.register_autograd(differentiate, setup_context=setup_context)

    def bk_scan(
        onsite: Tensor, hopping: Tensor | None, energy_re: Tensor, energy_im: Tensor
    ) -> tuple[Tensor, Tensor]:
        require_triton_device(onsite, f"bk_scan {version}")
        require_float32(
            "bk_scan", version, onsite=onsite, hopping=hopping, energy_re=energy_re, energy_im=energy_im
        )
        g_re, g_im, _ = forward(onsite, hopping, energy_re, energy_im)
        return g_re, g_im

    return bk_scan
