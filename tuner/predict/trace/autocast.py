"""Autocast as CUDA does it, for tensors without data on a machine without a GPU.

`torch.autocast("cuda")` turns itself off where there is no GPU, and its casts, which are functions of the
dispatcher, look for tensors on CUDA. So both are given what they look for: inside `autocast_as_on_cuda` the
context believes in a GPU, and in place of each of its functions stands one that casts meta tensors. They
stand above autograd as the real ones do, so that a cast is a part of the graph, and they see what composite
operations call inside (the log-softmax within a cross entropy, the product within an einsum).

A leaf that needs a gradient is cast once: the copy is kept until the outermost context ends, as there.

Source: the operations are those for which the installed torch has such a function; what each does is in the
lists of PyTorch's documentation, "Automatic Mixed Precision package", CUDA Op-Specific Behavior, and in
aten/src/ATen/autocast_mode.h (AT_FORALL_LOWER_PRECISION_FP, AT_FORALL_FP32, AT_FORALL_FP32_SET_OPT_DTYPE,
AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE, AT_FORALL_PROMOTE) and autocast_mode.cpp (cached_cast).
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .not_traceable import not_traceable

_KEY = "AutocastCUDA"

LOWER = frozenset((
    "_convolution", "conv1d", "conv2d", "conv3d", "conv_tbc", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d", "convolution", "cudnn_convolution", "cudnn_convolution_transpose", "prelu",
    "addmm", "addmv", "addr", "matmul", "einsum", "mm", "mv", "linalg_vecdot", "linear", "addbmm",
    "baddbmm", "bmm", "chain_matmul", "linalg_multi_dot", "_thnn_fused_lstm_cell",
    "_thnn_fused_gru_cell", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell",
    "_scaled_dot_product_flash_attention", "scaled_dot_product_attention",
))  # fmt: skip
"""Run in the lower precision."""
FLOAT32 = frozenset((
    "acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal",
    "rsqrt", "sinh", "tan", "pow", "softplus", "layer_norm", "native_layer_norm", "rms_norm",
    "group_norm", "frobenius_norm", "nuclear_norm", "cosine_similarity", "poisson_nll_loss",
    "cosine_embedding_loss", "nll_loss", "nll_loss2d", "hinge_embedding_loss", "kl_div", "l1_loss",
    "smooth_l1_loss", "huber_loss", "mse_loss", "margin_ranking_loss", "multilabel_margin_loss",
    "soft_margin_loss", "triplet_margin_loss", "multi_margin_loss", "binary_cross_entropy_with_logits",
    "dist", "pdist", "cdist", "renorm", "logsumexp", "upsample_nearest1d", "_upsample_nearest_exact1d",
    "upsample_nearest2d", "_upsample_nearest_exact2d", "upsample_nearest3d",
    "_upsample_nearest_exact3d", "upsample_linear1d", "upsample_bilinear2d", "_upsample_bilinear2d_aa",
    "upsample_trilinear3d", "upsample_bicubic2d", "_upsample_bicubic2d_aa",
))  # fmt: skip
"""Run in float32."""
FLOAT32_RESULT = frozenset((
    "prod", "softmax", "log_softmax", "cumprod", "cumsum", "linalg_vector_norm", "linalg_matrix_norm",
    "sum", "norm",
))  # fmt: skip
"""Told to make a float32 result, where no dtype was asked for: the argument is not cast on its own."""
PROMOTED = frozenset((
    "addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "vdot", "grid_sampler", "index_put",
    "tensordot", "scatter_add",
))  # fmt: skip
"""Run in the widest dtype among the arguments."""
_REFUSED = frozenset({"binary_cross_entropy"})
"""An error under autocast, on CUDA too."""
OWN_WAY = frozenset({"_cudnn_rnn"})
"""Cast in a way of their own, which is not followed: weights are copied into one buffer. Only builds with
CUDA have it."""


class _Cache:
    """Casts of leaves, alive until the outermost context ends. Leaves are kept, so that ids stay theirs."""

    def __init__(self) -> None:
        self.casts: dict[tuple[int, torch.dtype], tuple[Tensor, Tensor]] = {}

    def cast(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """A tensor in a dtype, as `cached_cast`."""
        if not _is_eligible(tensor) or tensor.dtype == dtype:
            return tensor
        keeps = (
            dtype == torch.get_autocast_dtype("cuda")
            and tensor.dtype == torch.float32
            and tensor.requires_grad
            and tensor.is_leaf
            and not tensor._is_view()
            and torch.is_autocast_cache_enabled()
        )
        if not keeps:
            return tensor.to(dtype)
        known = self.casts.get((id(tensor), dtype))
        if known is None:
            known = self.casts[id(tensor), dtype] = tensor, tensor.to(dtype)
        return known[1]


def operations() -> list[str]:
    """Names, with overloads, of the operations that the installed torch casts under autocast on CUDA."""
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    names = torch._C._dispatch_get_all_op_names()
    return sorted(name for name in names if name.startswith("aten::") and has(name, _KEY))


@contextlib.contextmanager
def autocast_as_on_cuda() -> Iterator[None]:
    """Inside, `torch.autocast("cuda")` casts meta tensors as it would cast CUDA's."""
    import torch.cuda.amp.common as common

    cache = _Cache()
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, _KEY))
    clear = torch.clear_autocast_cache

    def clear_both() -> None:
        cache.casts.clear()
        clear()

    with contextlib.ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in operations():
            kernel = _kernel(name, cache, keys)
            library.impl(name.removeprefix("aten::"), kernel, _KEY, allow_override=True)  # type: ignore[no-untyped-call]
        stack.callback(library._destroy)
        for owner, attribute, value in (
            (common, "amp_definitely_not_available", lambda: False),
            (torch.cuda, "is_bf16_supported", lambda *args, **kwargs: True),
            (torch, "clear_autocast_cache", clear_both),
        ):
            stack.callback(setattr, owner, attribute, getattr(owner, attribute))
            setattr(owner, attribute, value)
        # A tensor on CUDA names the key itself, one on meta does not; while autocast is off it is excluded.
        stack.enter_context(torch._C._IncludeDispatchKeyGuard(getattr(torch._C.DispatchKey, _KEY)))
        yield


def _kernel(name: str, cache: _Cache, keys: Any) -> Callable[..., Any]:
    short, _, overload = name.removeprefix("aten::").partition(".")
    operation = getattr(getattr(torch.ops.aten, short), overload or "default")
    cast = _casting(short, operation, cache)

    @functools.wraps(operation)
    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(keys):
            cast_args, cast_kwargs = cast(args, kwargs)
            return operation(*cast_args, **cast_kwargs)

    return kernel


_Casting = Callable[[Sequence[Any], dict[str, Any]], tuple[Sequence[Any], dict[str, Any]]]


def _casting(short: str, operation: Any, cache: _Cache) -> _Casting:
    """What happens to an operation's arguments."""

    def to(dtype: torch.dtype, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        cast = functools.partial(_mapped, lambda tensor: cache.cast(tensor, dtype))
        return tuple(map(cast, args)), {key: cast(value) for key, value in kwargs.items()}

    def lower(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        return to(torch.get_autocast_dtype("cuda"), args, kwargs)

    def widest(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        found = [tensor.dtype for tensor in _tensors((*args, *kwargs.values())) if _is_eligible(tensor)]
        wide = torch.float32 if torch.float32 in found else torch.get_autocast_dtype("cuda")
        return to(wide, args, kwargs)

    def result(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        if not (isinstance(args[0], Tensor) and _is_eligible(args[0])):
            return args, kwargs
        named = [argument.name for argument in operation._schema.arguments]
        if "dtype" not in named:  # `norm`, whose other overload has it
            return to(torch.float32, args, kwargs)
        place = named.index("dtype")
        if (len(args) > place and args[place] is not None) or kwargs.get("dtype") is not None:
            return args, kwargs
        return args[:place], {**kwargs, "dtype": torch.float32}

    def refused(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        raise not_traceable(f"aten.{short}", "autocast refuses it, on a GPU too")

    def unknown(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        raise not_traceable(f"aten.{short}", "this PyTorch casts it under autocast in a way not known here")

    for names, casting in (
        (LOWER, lower),
        (FLOAT32, functools.partial(to, torch.float32)),
        (FLOAT32_RESULT, result),
        (PROMOTED, widest),
        (_REFUSED, refused),
    ):
        if short in names:
            return casting
    return unknown


def _mapped(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(function, item) for item in value)
    return value


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _is_eligible(tensor: Tensor) -> bool:
    return tensor.device.type == "meta" and tensor.is_floating_point() and tensor.dtype != torch.float64
