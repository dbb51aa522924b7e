"""The correctness check of a kernel version inside the worker: what the gate says, as an answer."""

from __future__ import annotations

import math
import sys
import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..measuring.protocol import Checked, CheckRequest
from ..values.candidate import Candidate
from ..values.measurement import KernelCheck
from ..values.outcome import Outcome
from ..workloads import CheckedWorkload, load_workload
from .attempt import MESSAGE_CHARACTERS, explain

if TYPE_CHECKING:
    import torch

    from ...kernels.gate import GateResult

_TOLD = 3  # of the tensors outside their budget, those that are told: the others are in the worker's log


def check_kernels(request: CheckRequest, device: torch.device) -> Checked:
    """Check the version of the request's candidate on this device; whatever goes wrong is the answer."""
    started_s = time.perf_counter()
    candidate = Candidate.from_dict(request.candidate)
    try:
        workload = load_workload(candidate.workload)
        if not isinstance(workload, CheckedWorkload):
            return Checked(id=request.id, outcome=Outcome.OK)
        results = workload.check(candidate, device)
    # The border between a kernel's code and the worker: whatever comes out of it is data.
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        outcome, message, _ = explain(error)
        return Checked(id=request.id, outcome=outcome, message=message)
    worst = max((result.worst_ratio for result in results), default=0.0)
    failures = _failures(results)
    for _, line in failures:
        print(f"{candidate.version} {candidate.precision}: {line}", file=sys.stderr)
    check = KernelCheck(
        workload=candidate.workload,
        kernel_version=candidate.version,
        mixed_precision=candidate.precision,
        optimizer=candidate.has_own_optimizer,
        passed=not failures,
        worst_ratio=worst if math.isfinite(worst) else None,
        seconds=time.perf_counter() - started_s,
    )
    outcome = Outcome.OK if check.passed else Outcome.WRONG_RESULT
    return Checked(id=request.id, outcome=outcome, message=_summary(failures), check=check)


def _failures(results: Sequence[GateResult]) -> list[tuple[float, str]]:
    """(error / budget, sentence) of every tensor outside its budget, the worst first."""
    found = []
    for result in results:
        for failure in result.failures:
            ratio = failure.error / failure.budget if failure.budget > 0 else math.inf
            line = (
                f"{result.operation}, {failure.tensor} ({result.dtype}): error {failure.error:.3g}, "
                f"budget {failure.budget:.3g}"
            )
            found.append((ratio if math.isfinite(ratio) else math.inf, line))
    return sorted(found, key=lambda item: -item[0])


def _summary(failures: Sequence[tuple[float, str]]) -> str:
    told = [line for _, line in failures[:_TOLD]]
    if len(failures) > _TOLD:
        told.append(f"and {len(failures) - _TOLD} more")
    return "; ".join(told)[:MESSAGE_CHARACTERS]
