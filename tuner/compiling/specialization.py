"""What Triton compiles a kernel for: one form of it, named so that another process can compile it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Specialization:
    """One form of one kernel, as Triton tells its launches apart: types, alignment, constants, options.

    module, kernel: where the Triton function is. description: Triton's own, in JSON; it names the GPU's
    architecture too, so that equal ones have one place in Triton's cache.
    """

    module: str
    kernel: str
    description: str

    @property
    def name(self) -> str:
        """folder.module.kernel, as launches are named elsewhere."""
        return ".".join([*self.module.split(".")[-2:], self.kernel])


@dataclass(frozen=True, kw_only=True, slots=True)
class Compiled:
    """A form of a kernel that is in Triton's cache.

    path: its entry; is_new: whether it was not there before; seconds: how long that took.
    """

    path: str
    is_new: bool
    seconds: float
