"""What the computer runs on: mains or battery, as Linux tells it. NVML has no figure for it."""

from __future__ import annotations

from pathlib import Path

from ..values.measurement import PowerSource


def power_source(supplies: Path = Path("/sys/class/power_supply")) -> PowerSource | None:
    """What the computer runs on; None where the kernel lists no supply, as on desktops and servers.

    Batteries of mice and keyboards (scope "Device") do not count.
    """
    try:
        folders = sorted(supplies.iterdir())
    except OSError:
        return None
    batteries, is_plugged_in = [], False
    for folder in folders:
        if _read(folder / "scope") == "Device":
            continue
        if _read(folder / "type") == "Battery":
            batteries.append(_read(folder / "status"))
        elif _read(folder / "online") == "1":
            is_plugged_in = True
    if "Discharging" in batteries:  # also where a supply too weak for the load is plugged in
        return "battery"
    return "ac" if batteries or is_plugged_in else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
