"""A driver that measures one candidate and is killed by the test: `driver.py LOG_DIR FIFO`."""

from __future__ import annotations

import sys
from pathlib import Path

from phase8_tune.tuner.measuring.worker_measurer import WorkerMeasurer
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.timing import Timing

WorkerMeasurer(
    device="cpu", budget_bytes=1 << 33, reserve_bytes=0, log_dir=Path(sys.argv[1]), timing=Timing()
).measure(
    Candidate(
        workload="workloads:RUNS",
        model=f"hangs:{sys.argv[2]}",
        n_seq=8,
        batch_size=1,
        kernel_version="reference",
        gradient_checkpointing=False,
        mixed_precision="none",
    )
)
