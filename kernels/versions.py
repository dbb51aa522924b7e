"""The table of kernel versions: which implementation of each operation a version name stands for.

This module imports no torch: the tuner's driver reads the names. `load` imports what a version needs.
"""

from __future__ import annotations

KERNEL_VERSIONS: tuple[str, ...] = ("reference",)
