"""`phase8-tune` as a process of its own, with a worker without torch: `faked.py WORKER-OPTION ARGUMENTS…`.

Everything is real but what runs in the worker. WORKER-OPTION: as `fakes/worker.py` takes it.
"""

from __future__ import annotations

import sys

import pytest

from phase8_tune.tuner.cli import main
from phase8_tune.tuner.measuring import worker_measurer

WORKER = "phase8_tune.tests.fakes.worker"

if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_measurer, "WORKER_COMMAND", (sys.executable, "-m", WORKER, sys.argv[1]))
        main(sys.argv[2:])
