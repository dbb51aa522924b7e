"""What a workload's own code may change of the whole process, so that the next candidate has it as it was."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Self

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class GlobalState:
    """Settings of torch that decide how steps are computed, and the state of Python's random numbers.

    Torch's own seed is set anew for every candidate.
    """

    default_dtype: torch.dtype
    matmul_precision: str
    is_deterministic: bool
    only_warns: bool
    cudnn_benchmark: bool
    cudnn_deterministic: bool
    cudnn_tf32: bool
    matmul_tf32: bool
    has_gradients: bool
    random_state: tuple[Any, ...]

    @classmethod
    def now(cls) -> Self:
        """As it is."""
        return cls(
            default_dtype=torch.get_default_dtype(),
            matmul_precision=torch.get_float32_matmul_precision(),
            is_deterministic=torch.are_deterministic_algorithms_enabled(),
            only_warns=torch.is_deterministic_algorithms_warn_only_enabled(),
            cudnn_benchmark=torch.backends.cudnn.benchmark,
            cudnn_deterministic=torch.backends.cudnn.deterministic,
            cudnn_tf32=torch.backends.cudnn.allow_tf32,
            matmul_tf32=torch.backends.cuda.matmul.allow_tf32,
            has_gradients=torch.is_grad_enabled(),
            random_state=random.getstate(),
        )

    def restore(self) -> None:
        """Have it again."""
        torch.set_default_dtype(self.default_dtype)
        torch.backends.cuda.matmul.allow_tf32 = self.matmul_tf32
        torch.set_float32_matmul_precision(self.matmul_precision)
        torch.use_deterministic_algorithms(self.is_deterministic, warn_only=self.only_warns)
        torch.backends.cudnn.benchmark = self.cudnn_benchmark
        torch.backends.cudnn.deterministic = self.cudnn_deterministic
        torch.backends.cudnn.allow_tf32 = self.cudnn_tf32
        torch.set_grad_enabled(self.has_gradients)
        random.setstate(self.random_state)
