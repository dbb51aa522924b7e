"""Child process: asks torch's allocator for expandable segments and looks at what it made.

The driver sets the allocator's settings in this process's environment.
"""

from __future__ import annotations

import warnings

from .answering import answer
from .answers import SegmentsAnswer


def probe() -> SegmentsAnswer:
    """Raises: RuntimeError (torch's) where the card has no memory left."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import torch

        kept = torch.ones(1 << 20, device="cuda")
        torch.cuda.synchronize()
        segments = torch.cuda.memory_snapshot()  # type: ignore[no-untyped-call]
        del kept
    said = [str(warning.message) for warning in caught if "expandable" in str(warning.message)]
    return SegmentsAnswer(
        is_expandable=any(segment.get("is_expandable", False) for segment in segments),
        warning=said[0].splitlines()[0] if said else "",
    )


if __name__ == "__main__":
    answer(probe)
