"""Workloads for the real worker, by import path (`workloads:RUNS` with this folder on PYTHONPATH).

The candidate's `model` says what the run does.
"""

from __future__ import annotations

import builtins
import ctypes
import os
import subprocess
import sys
import threading

import torch

from phase8_tune.tuner.values.candidate import Candidate

LEAKED: list[torch.Tensor] = []


class Run:
    parameters = 7

    def __init__(self, candidate: Candidate, device: torch.device, seed: int) -> None:
        self.how, _, self.argument = candidate.model.partition(":")
        self.weights = torch.ones(candidate.batch_size, 1024, device=device)
        self.count = 0
        self.seed = seed

    setup_calls = 1

    def run_once(self) -> torch.Tensor:
        self.count += 1
        if self.how == "prints":
            print("a library says hello")
            os.write(1, b"and writes to the descriptor, half a line")
        elif self.how == "raises":
            kind, _, text = self.argument.partition("|")
            raise (getattr(torch, kind, None) or getattr(builtins, kind))(text)
        elif self.how == "oom":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        elif self.how == "allocates":
            torch.empty(int(self.argument), dtype=torch.uint8, device=self.weights.device).fill_(1)
        elif self.how == "outside":  # of torch's allocator, as other libraries do
            pointer, taken = ctypes.c_uint64(), ctypes.c_size_t(int(self.argument))
            assert ctypes.CDLL("libcuda.so.1").cuMemAlloc_v2(ctypes.byref(pointer), taken) == 0
            self.argument = "1"
        elif self.how == "asserts":
            indices = torch.tensor([5], device=self.weights.device)
            torch.zeros(2, device=self.weights.device)[indices].sum()
        elif self.how == "neighbour" and self.count == 2:
            taking = (
                f"import torch; torch.ones({self.argument}, dtype=torch.uint8, device='cuda').sum().item()"
            )
            subprocess.run([sys.executable, "-c", taking], check=True, stdout=sys.stderr)
        elif self.how == "leaks":
            LEAKED.append(torch.ones(int(self.argument), dtype=torch.uint8, device=self.weights.device))
        elif self.how == "slow":
            threading.Event().wait(float(self.argument))
        elif self.how == "nan":
            return self.weights.sum() * float("nan")
        elif self.how == "exits":
            sys.exit(0)
        elif self.how == "hangs":
            with open(self.argument, "w") as announce:  # a FIFO: the test waits at its other end
                announce.write(f"{os.getpid()}\n")
            threading.Event().wait()
        elif self.how == "matmul":
            size = int(self.argument)
            square = torch.ones(size, size, device=self.weights.device)
            return (square @ square).mean()
        return self.weights.mean() * self.count

    def finish(self) -> None:
        pass

    def close(self) -> None:
        del self.weights


class Runs:
    def prepare(self, candidate: Candidate, device: torch.device, seed: int) -> Run:
        return Run(candidate, device, seed)


RUNS = Runs()
NOT_A_WORKLOAD = 3
