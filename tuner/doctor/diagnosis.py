"""The verdict over the facts, and how it is shown to people."""

from __future__ import annotations

import time

from ..machine.environment import Environment
from ..values.sizes import format_mb
from ..values.terminal import fill
from .facts import Diagnosis, Facts, Finding
from .rules import judge


def diagnose(facts: Facts) -> Diagnosis:
    """Training on the GPU will work where a card was used and no finding is an error."""
    findings = judge(facts)
    works = facts.device.kind == "cuda" and all(finding.severity != "error" for finding in findings)
    environment = Environment(
        device=facts.device,
        versions=facts.versions,
        triton_status=facts.triton.said,
        measured_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )
    return Diagnosis(
        training_on_gpu=works,
        exit_code=0 if works else 4,
        measuring_on=None if facts.torch_failure else "cuda" if facts.device.kind == "cuda" else "cpu",
        memory_source=facts.memory_source,
        environment=dict(environment.rows()),
        facts=facts,
        findings=findings,
    )


def render(diagnosis: Diagnosis, *, width: int | None = None) -> str:
    """The report for a terminal: the environment's table, what was checked, findings, and the verdict.

    width: columns of the terminal, None for no limit; where the table is wider, it is a line for each fact.
    """
    from tabulate import tabulate

    rows = [*diagnosis.environment.items(), *_checks(diagnosis.facts)]
    table = tabulate(rows, tablefmt="plain", disable_numparse=True)
    if width is not None and max(map(len, table.split("\n"))) > width:
        table = "\n".join(f"{name}: {value}" for name, value in rows)
    lines = [table, ""]
    lines += [_line(finding) for finding in diagnosis.findings] or ["Nothing is wrong."]
    lines += ["", _verdict(diagnosis)]
    return fill("\n".join(lines), width)


def _checks(facts: Facts) -> list[tuple[str, str]]:
    nvml, folder = facts.nvml, facts.runs_folder
    rows = [("NVML", nvml.reason or f"works, driver {nvml.driver or 'not told'}")]
    if facts.device.kind == "cuda":
        source = facts.memory_source or "none: no measurement was made"
        rows.append(("Memory source", source))
        if nvml.used_bytes is not None and nvml.total_bytes is not None:
            free = format_mb(nvml.total_bytes - nvml.used_bytes)
            rows.append(("Memory", f"{free} MB free, {format_mb(nvml.used_bytes)} in use"))
        elif facts.free_bytes is not None:
            rows.append(("Memory", f"{format_mb(facts.free_bytes)} MB free"))
        rows += [("Held by", _holders(facts)), ("Throttling", _throttling(facts))]
        shared = facts.device.shared_memory_per_block_bytes
        rows.append(("Shared memory", "not told" if shared is None else f"{shared} bytes a block"))
        rows.append(("Expandable segments", facts.expandable_segments.said))
    kernels = "; ".join(
        f"{kernel.version}: {kernel.can_run}{f' ({kernel.reason})' if kernel.reason else ''}"
        for kernel in facts.kernels
    )
    free_disk = "not told" if folder.free_bytes is None else f"{format_mb(folder.free_bytes)} MB free"
    rows += [
        ("Kernel versions", kernels),
        ("WSL", "yes" if facts.wsl.is_wsl else "no"),
        ("Container", "yes" if facts.in_container else "no"),
        ("Power", facts.power_source or "no supply is listed"),
        ("Runs folder", f"{folder.path}, {free_disk}"),
    ]
    return rows


def _holders(facts: Facts) -> str:
    holders = facts.nvml.holders
    if holders is None:
        return "not told by NVML"
    return (
        ", ".join(
            f"{holder.name or 'process'} {holder.pid} "
            f"({'size not told' if holder.used_bytes is None else format_mb(holder.used_bytes) + ' MB'})"
            for holder in holders
        )
        or "no process is listed"
    )


def _throttling(facts: Facts) -> str:
    reasons = facts.nvml.throttle_reasons
    return "not told" if reasons is None else ", ".join(reasons) or "none"


def _line(finding: Finding) -> str:
    return f"{finding.severity}: {finding.what}. To do: {finding.todo.rstrip('.')}."


def _verdict(diagnosis: Diagnosis) -> str:
    if diagnosis.training_on_gpu:
        return f"Training on {diagnosis.facts.device.name} works: a step of the smallest model was measured."
    if diagnosis.measuring_on is None:
        return "Nothing can be measured, not even on the CPU: PyTorch does not start."
    if diagnosis.measuring_on == "cpu":
        return "There is no GPU to measure on: phase8-tune predicts; --device cpu measures on the CPU."
    return f"Training on {diagnosis.facts.device.name} does not work: see the errors above."
