"""Names of the classes that the work of a step is summed in. No torch: tracer and roofline share it."""

from __future__ import annotations

CALLS = "calls of custom operations"
"""Borne by the host alone: calls of operations with a wrapper in Python."""

RECORDED = "operations that autograd records"
"""Likewise, and counted beside what they cost themselves: with autograd on, Python calls them."""

UNRECORDED = "operations of a pass without autograd"
"""Likewise, where only the forward pass is run."""

BALANCES = (16, 64, 128, 256)
"""FLOP a byte at which a card's matrix rate and bandwidth balance; see `gemm_costs`."""

MATRIX_KERNELS = frozenset(
    {
        "htt_cross_entropy.exponentials.exponentials_kernel",
        "htt_cross_entropy.exponentials.persistent_exponentials_kernel",
        "htt_cross_entropy.factors.left_product_kernel",
        "htt_cross_entropy.factors.hidden_gradient_kernel",
        "htt_cross_entropy.factors.left_gradient_kernel",
    }
)
"""folder.module.kernel of those whose arithmetic runs on the matrix units."""


def gemm_class(balance: int) -> str:
    return f"gemm at {balance}"


def gemm_costs(work: float, moved_bytes: float) -> list[tuple[str, float]]:
    """(class, FLOP) of a product on cards of every balance: a product that moves more bytes than it has
    arithmetic for takes as long as its bytes. Summed over products they say what a sum of FLOP and a sum of
    bytes cannot: which of the two each product waits for."""
    return [(gemm_class(balance), max(work, balance * moved_bytes)) for balance in BALANCES]


def launch_class(operation: str | None, kernel: str) -> str:
    """operation:folder.module.kernel, of a Triton launch and the operation that makes it."""
    return f"{operation or 'launch'}:{kernel}"


def is_launch(name: str) -> bool:
    """Whether a class is of Triton launches."""
    return ":" in name


def is_matrix_kernel(name: str) -> bool:
    """Whether the arithmetic of a launch's class runs on the matrix units."""
    return name.partition(":")[2] in MATRIX_KERNELS


def is_narrow_product(name: str) -> bool:
    """Whether a class is of matrix products along a dimension that is narrower than a tile."""
    return name.partition(":")[2].startswith("htt_cross_entropy.factors.")
