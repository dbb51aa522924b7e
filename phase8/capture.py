"""CUDA graphs for functions of fixed shape: a step is launched once, instead of kernel by kernel.

A step of a small model is some hundred launches of 7 to 20 µs, more than its kernels take on a large GPU;
replayed from a graph they cost one.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor

EAGER_CALLS = 3  # real calls before the capture: kernels are compiled, optimizer state and workspaces exist


class CapturedFunction:
    """Runs `function` eagerly a few times, then captures it once and replays the capture.

    function: takes one tensor of fixed shape and dtype on a CUDA device, returns one scalar tensor; it must
    not synchronise. The eager calls are ordinary calls with their effects; capturing itself has none.
    beside: another, captured before this one, that never runs at the same time: both run in its memory.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], beside: CapturedFunction | None = None) -> None:
        self._function, self._beside = function, beside
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        # Memory is a stream's own: who shares it shares the stream.
        new = torch.cuda.Stream
        self._stream: torch.cuda.Stream = new() if beside is None else beside._stream  # type: ignore[no-untyped-call]
        self._input: Tensor | None = None
        self._output: Tensor | None = None

    def __call__(self, argument: Tensor) -> Tensor:
        if self._graph is None and self._calls < EAGER_CALLS:
            self._calls += 1
            # On the side stream that the capture will use: its memory is then cached for that stream.
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                output = self._function(argument)
            torch.cuda.current_stream().wait_stream(self._stream)
            return output
        if self._graph is None:
            self._capture(argument)
        assert self._graph is not None
        assert self._input is not None
        assert self._output is not None
        self._input.copy_(argument)
        self._graph.replay()
        return self._output.clone()

    def run_beside(self, function: Callable[[Tensor], Tensor], argument: Tensor) -> Tensor:
        """Run another function eagerly in the memory that the captured one leaves free between its replays.

        Once the capture holds most of the card's memory, nothing else is left to run in. function: as the
        captured one, but of any shape; without autograd, whose backward pass has a thread of its own. Before
        the capture it runs as any eager call. Returns a copy of its scalar outside of that memory, where a
        replay would overwrite it.
        """
        if self._graph is None:
            return function(argument)
        result = torch.empty((), device=argument.device)
        # `use_mem_pool` asks of a pool no more than its id, and a graph's own pool is not given as an object.
        pool = SimpleNamespace(id=self._graph.pool())
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream), torch.cuda.use_mem_pool(pool):  # type: ignore[arg-type]
            result.copy_(function(argument))
        torch.cuda.current_stream().wait_stream(self._stream)
        return result

    def _capture(self, argument: Tensor) -> None:
        self._input = argument.clone()
        # The graph allocates from a pool of its own: give the eager calls' cached blocks back first.
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        graph = torch.cuda.CUDAGraph()
        beside = None if self._beside is None else self._beside._graph
        pool = None if beside is None else beside.pool()
        try:
            with torch.cuda.graph(graph, pool=pool, stream=self._stream):
                self._output = self._function(self._input)
        except torch.OutOfMemoryError as error:
            # Not told by the exception where the capture itself ended well: its pool is left half filled.
            error.add_note("refused during capture of a CUDA graph")
            raise
        self._graph = graph
