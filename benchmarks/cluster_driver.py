"""`phase8-tune` over a cluster whose GPUs are pretended, as a process of its own:
`python -m phase8_tune.benchmarks.cluster_driver WORKER-OPTIONS ARGUMENTS…`.

Everything is real but what nodes say of their GPUs and what runs in the workers.
"""

from __future__ import annotations

import shlex
import sys

from ..tests.fakes.cluster import FakeSight
from ..tuner.cli import main
from ..tuner.places.cluster import Cluster

if __name__ == "__main__":
    Cluster.sight = FakeSight(shlex.split(sys.argv[1]))
    main(sys.argv[2:])
