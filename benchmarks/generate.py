"""Decoding: tokens/s and memory by the length of the context, beside a transformer with a cache.

    python -m phase8_tune.benchmarks.generate [--model small] [--lengths 256,1024,4096,16384]
        [--batches 1,16,256] [--device cuda|cpu] [--output DIR]

One step is timed: a token of each sequence in, the logits of the next out, at a given number of positions
before it. The transformer has the same width and depth; its cache is allocated for exactly the context, and
every entry of it is read. On a GPU both steps are CUDA graphs in bfloat16 and timed in turns; on a CPU both
run eagerly in float32.

Prints a table and one line of JSON; --output writes them into DIR with environment and report.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tabulate import tabulate
from torch import Tensor

from ..phase8.config import preset
from ..phase8.decoding import Decoder
from ..phase8.model import Phase8Model
from .environment import environment
from .timing import summarise, time_calls
from .transformer import VOCAB_SIZE, Transformer

Step = Callable[[], object]


class CachedTransformer:
    """One step of the anchor at a fixed context: it writes the last entry of its cache and reads them all."""

    def __init__(self, model: Transformer, batch: int, context: int) -> None:
        self.model, self.batch = model, batch
        self.blocks: list[Any] = list(model.blocks)
        weight, heads = model.tokens.weight, self.blocks[0].n_heads
        shape = (len(self.blocks), 2, batch, heads, context, weight.shape[1] // heads)
        self.cache = torch.empty(shape, dtype=weight.dtype, device=weight.device).normal_()
        self.last = torch.full((1,), context - 1, device=weight.device)

    def size_bytes(self) -> int:
        return self.cache.numel() * self.cache.element_size()

    @torch.no_grad()
    def step(self, tokens: Tensor) -> Tensor:
        """tokens [B] int64 → logits [B, padded V] float32."""
        x = self.model.tokens(tokens) + self.model.positions(self.last)
        for block, (keys, values) in zip(self.blocks, self.cache, strict=True):
            qkv = block.qkv(block.norm1(x)).view(self.batch, 3, block.n_heads, 1, -1)
            q, k, v = qkv.unbind(1)
            keys.index_copy_(2, self.last, k)
            values.index_copy_(2, self.last, v)
            heads = F.scaled_dot_product_attention(q, keys, values)
            x = x + block.out(heads.reshape(self.batch, -1))
            x = x + block.down(F.gelu(block.up(block.norm2(x)), approximate="tanh"))
        return F.linear(self.model.norm(x), self.model.tokens.weight).float()


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A step at a context: as it is, as a CUDA graph, and what it remembers."""

    eager: Step
    capture: Callable[[], Step]
    size_bytes: int


class Bench:
    """Both models of one size on one device."""

    def __init__(self, name: str, n_seq: int, device: torch.device) -> None:
        self.device, self.on_gpu = device, device.type == "cuda"
        self.rounds, self.warmup, self.steps = (2, 5, 40) if self.on_gpu else (1, 1, 4)
        # One eager step, and one more a round, which time_calls makes
        self.calls = 1 + self.rounds * (self.warmup + 1 + self.steps)
        config = preset(name, n_seq=n_seq)
        torch.manual_seed(0)
        with device:
            model = Phase8Model(config, mixed_precision="bf16" if self.on_gpu else "none")
            anchor = Transformer(config.d_model, config.n_layers, config.n_heads, n_seq)
        self.decoder = Decoder(model)
        self.transformer = anchor.to(torch.bfloat16 if self.on_gpu else torch.float32)

    def _phase8(self, batch: int, context: int, tokens: Tensor) -> Run:
        """Steps of which the last is at `context`.

        The state is that of a prompt of up to 128 tokens, whose position is then moved to where the steps
        begin: a step does the same work at every position.
        """
        begin = context - self.calls
        prompt = torch.randint(0, VOCAB_SIZE, (batch, min(begin, 128)), device=self.device)
        _, state = self.decoder.prefill(prompt)
        state.length = begin
        state.position.fill_(begin)

        def capture() -> Step:
            captured = self.decoder.capture(state)
            return lambda: captured(tokens)

        return Run(
            eager=lambda: self.decoder.step(tokens, state), capture=capture, size_bytes=state.size_bytes()
        )

    def _cached(self, batch: int, context: int, tokens: Tensor) -> Run:
        cached = CachedTransformer(self.transformer, batch, context)

        def capture() -> Step:
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                cached.step(tokens)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream):
                cached.step(tokens)
            return graph.replay

        return Run(eager=lambda: cached.step(tokens), capture=capture, size_bytes=cached.size_bytes())

    def measure(self, batch: int, context: int) -> list[dict[str, Any]]:
        """Both models at one batch and context; `fits` is false where one ran out of memory."""
        tokens = torch.randint(0, VOCAB_SIZE, (batch,), device=self.device)
        results: dict[str, dict[str, Any]] = {}
        steps: dict[str, Step] = {}
        for name, make in (("phase8", self._phase8), ("transformer", self._cached)):
            result = results[name] = {"run": name, "batch": batch, "context": context, "fits": True}
            base = self._release()
            try:
                run = make(batch, context, tokens)
                result["state_bytes"] = run.size_bytes
                if self.on_gpu:
                    torch.cuda.reset_peak_memory_stats()
                run.eager()
                if self.on_gpu:
                    result["added_peak_bytes"] = torch.cuda.max_memory_allocated() - base
                steps[name] = run.capture() if self.on_gpu else run.eager
            except RuntimeError as error:  # also what a capture makes of running out of memory
                if "out of memory" not in str(error) and "capture" not in str(error):
                    raise
                result["fits"] = False
        samples: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(self.rounds):
            for name, step in steps.items():
                samples[name] += self._time(step)
        for name in steps:
            timing = summarise(samples[name])
            results[name] |= {
                "step_s": timing.median_s,
                "tokens_per_s": batch / timing.median_s,
                "tokens_per_s_low": batch / timing.high_s,
                "tokens_per_s_high": batch / timing.low_s,
            }
        return list(results.values())

    def _time(self, step: Step) -> list[float]:
        if self.on_gpu:
            return time_calls(step, warmup=self.warmup, iterations=self.steps)
        samples = []
        for index in range(self.warmup + self.steps):
            begin = time.perf_counter()
            step()
            if index >= self.warmup:
                samples.append(time.perf_counter() - begin)
        return samples

    def _release(self) -> int:
        """What earlier runs held, given back; the bytes that are allocated without them."""
        gc.collect()
        if not self.on_gpu:
            return 0
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return torch.cuda.memory_allocated()


def checks(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was asked against what was reached, for every batch where both ends were measured."""
    found = []
    contexts = sorted({result["context"] for result in results})
    for batch in sorted({result["batch"] for result in results}):
        of = {(r["run"], r["context"]): r for r in results if r["batch"] == batch}
        first, last = of["phase8", contexts[0]], of["phase8", contexts[-1]]
        cache = of["transformer", contexts[-1]]
        if "state_bytes" in last and "state_bytes" in cache:
            share = last["state_bytes"] / cache["state_bytes"]
            what = f"state / cache of keys and values at {contexts[-1]}"
            found.append({"batch": batch, "what": what, "asked": "≤ 0.05", "reached": round(share, 5)})
        if first["fits"] and last["fits"]:
            share = last["tokens_per_s"] / first["tokens_per_s"]
            what = f"tokens/s at {contexts[-1]} / at {contexts[0]}"
            found.append({"batch": batch, "what": what, "asked": "≥ 0.95", "reached": round(share, 3)})
    return found


def table_of(results: Sequence[Mapping[str, Any]], form: str = "simple") -> str:
    rows = []
    for result in results:
        rate, low, high = (result.get(f"tokens_per_s{end}") for end in ("", "_low", "_high"))
        rows.append(
            [
                result["run"],
                result["batch"],
                f"{result['context']:,}",
                "out of memory" if rate is None else f"{rate:,.0f}",
                "" if rate is None else f"{low:,.0f} to {high:,.0f}",
                *(_mib(result.get(key)) for key in ("state_bytes", "added_peak_bytes")),
            ]
        )
    headers = ["run", "batch", "context", "tokens/s", "95 %", "state MB", "peak above weights MB"]
    align = ("left", *("right",) * 6)
    return tabulate(rows, headers=headers, tablefmt=form, disable_numparse=True, colalign=align)


def _mib(size_bytes: int | None) -> str:
    return "" if size_bytes is None else f"{size_bytes / 2**20:,.2f}"


def report_of(name: str, on_gpu: bool, found: Mapping[str, Any]) -> str:
    """The results for people, in Markdown."""
    how = (
        "bf16, both as CUDA graphs, CUDA events around every step, in turns"
        if on_gpu
        else "float32, both eager, on the CPU"
    )
    asked = tabulate(
        [[check["what"], check["batch"], check["asked"], check["reached"]] for check in found["checks"]],
        headers=["", "batch", "asked", "reached"],
        tablefmt="github",
    )
    return (
        f"# Decoding with {name} by the length of the context, beside a transformer with a cache\n\n"
        f"Measured by `benchmarks/generate.py`: median of {found['samples']} steps, {how}. A step takes one "
        "token of each sequence and gives the logits of the next. The transformer has the same width and "
        "depth, its cache of keys and values exactly the context's length; phase8's state that of a prompt "
        "whose position was moved to the context. Peak: what torch had allocated at most in an eager step, "
        "less the weights.\n\n"
        f"{table_of(found['results'], 'github')}\n\n{asked}\n"
    )


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="small")
    parser.add_argument("--lengths", type=_numbers, default=[256, 1024, 4096, 16384])
    parser.add_argument("--batches", type=_numbers, default=[1, 16, 256])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    bench = Bench(arguments.model, max(arguments.lengths), torch.device(arguments.device))
    if min(arguments.lengths) <= bench.calls:
        parser.error(
            f"--lengths: expected more than the {bench.calls} steps that are made, got {arguments.lengths}"
        )
    results = []
    for batch in arguments.batches:
        for context in arguments.lengths:
            results += bench.measure(batch, context)
            print(f"  batch {batch} at {context}", file=sys.stderr, flush=True)
    found = {
        "model": arguments.model,
        "samples": bench.rounds * bench.steps,
        "checks": checks(results),
        "results": results,
    }
    print(table_of(results))
    print(json.dumps(found))
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "environment.json").write_text(
            json.dumps(environment(), indent=1) + "\n", encoding="utf-8"
        )
        (arguments.output / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (arguments.output / "report.md").write_text(
            report_of(arguments.model, bench.on_gpu, found), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
