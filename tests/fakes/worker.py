"""A worker without torch that misbehaves on command: the candidate's `model` names the misbehaviour.

`--start=…` names one at the start. `--device=cuda` makes it claim the card that its driver chose, else that
of the fake NVML. Two options are about its second request: `--breaks=FILE --card=UUID`, it breaks that card,
if it is its own, so that no worker starts there; `--waits=FOLDER`, it writes its pid to the FIFO `here` and
opens the FIFO `go`. `--takes=SECONDS`,
every measurement takes so long; `--hangs=NUMBER`, that one never ends; `--says=TEXT`, it writes that into its
log. Imports only the standard library, so that it starts in no time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any, NoReturn

DEVICES: dict[str, dict[str, Any]] = {
    "cpu": {"kind": "cpu", "name": "fake processor", "total_bytes": 1 << 34},
    "cuda": {"kind": "cuda", "name": "fake card", "total_bytes": 1 << 34, "uuid": "GPU-fake"},
}
VERSIONS = {
    "phase8_tune": "0",
    "python": "3",
    "torch": "2",
    "triton": None,
    "cuda": None,
    "driver": None,
    "os": "test",
}
if os.environ.get("CUDA_VISIBLE_DEVICES", "").startswith("GPU-"):
    DEVICES["cuda"]["uuid"] = os.environ["CUDA_VISIBLE_DEVICES"]
MIB = 1 << 20


def say(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def hang() -> NoReturn:
    threading.Event().wait()
    raise AssertionError("an event that nobody sets was set")


def result(request: dict[str, Any], device: str, **measurement: Any) -> dict[str, Any]:
    memory: dict[str, Any] = {"kind": "cpu", "before_bytes": 10, "peak_bytes": 30, "source": "fake"}
    if device == "cuda":
        memory = {
            "kind": "cuda",
            "context_bytes": 100 * MIB,
            "context_source": "fake",
            "reserved_peak_bytes": 400 * MIB,
        }
    found: dict[str, Any] = {"outcome": "ok", "samples_s": [0.1] * 5, "parameters": os.getpid()}
    found["body_parameters"] = found["parameters"]
    found.update(measurement)
    return {"type": "result", "id": request["id"], "measurement": found, "memory": memory, "replace": None}


def start(how: str, device: str) -> None:
    if how == "hang":
        hang()
    if how == "garbage":
        os.write(1, b"Loading libraries...\n")
    if how == "failed":
        say({"type": "failed", "message": "no card\nand advice"})
        hang()
    if how == "exit":
        print("ImportError: no torch", file=sys.stderr)
        sys.exit(1)
    if how.startswith("second:"):  # the first of all workers does not start
        path = how.partition(":")[2]
        if not os.path.exists(path):
            open(path, "w").close()
            sys.exit(1)
    if how == "result":
        say(result({"id": 1}, device))
    ready = {"type": "ready", "pid": os.getpid(), "device": DEVICES[device], "versions": VERSIONS}
    say(ready | ({"context_bytes": 100 * MIB, "context_source": "fake"} if device == "cuda" else {}))


def check(request: dict[str, Any]) -> None:
    """`variant` says how the check of the kernel version ends."""
    candidate = request["candidate"]
    how = candidate["variant"].removeprefix("check:")
    made = {"type": "checked", "id": request["id"], "outcome": "ok", "message": "", "check": None}
    verdict = {key: candidate[key] for key in ("workload", "kernel_version", "mixed_precision")}
    if how in ("passes", "wrong"):
        made["check"] = verdict | {"passed": how == "passes", "worst_ratio": 0.5, "seconds": 2.0}
    if how == "wrong":
        made |= {"outcome": "wrong_result", "message": "bk_gate, gradient of h: error 0.3, budget 0.01"}
    elif how in ("oom", "illegal_access"):
        made |= {"outcome": how, "message": f"{how} in a kernel"}
    elif how == "hangs":
        hang()
    elif how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "measures":
        made = result(request, "cuda")
    elif how not in ("passes", "none"):
        raise ValueError(how)
    say(made)


def answer(request: dict[str, Any], device: str) -> None:
    how, _, argument = request["candidate"]["model"].partition(":")
    good = result(request, device)
    line = json.dumps(good).encode() + b"\n"
    if how in ("ok", "nano"):
        say(good)
    elif how == "setup":
        say(result(request, device, setup_s=float(argument)))
    elif how == "progress":
        for phase in ("setup", "warmup", "timed", "finished"):
            say({"type": "progress", "id": request["id"], "phase": phase})
        say(good)
    elif how == "slow":  # so many seconds in all
        for phase in ("setup", "warmup", "timed", "finished"):
            threading.Event().wait(float(argument) / 4)
            say({"type": "progress", "id": request["id"], "phase": phase})
        say(good)
    elif how == "tainted":
        say(result(request, device, tainted=["num_alloc_retries rose by 1"], parameters=request["id"]))
    elif how == "replace":
        say(good | {"replace": "not back at its baseline"})
    elif how == "oom":
        say(result(request, device, outcome="oom", message="CUDA out of memory", samples_s=[]))
    elif how == "garbage":
        os.write(1, b"\xff\xfe Segmentation fault? {not json}\n")
        hang()
    elif how == "unknown_key":
        say(good | {"surprise": 1})
    elif how == "wrong_id":
        say(good | {"id": request["id"] + 1})
    elif how == "ready_again":
        start("ok", device)
    elif how == "half_line":
        os.write(1, line[: len(line) // 2])
        hang()
    elif how == "half_line_exit":
        os.write(1, line[: len(line) // 2])
        sys.exit(0)
    elif how == "megabytes":
        block = b"x" * MIB
        for _ in range(3):
            os.write(1, block)
        hang()
    elif how == "silence":
        hang()
    elif how == "leave_child":
        waiting = [sys.executable, "-c", "import threading; threading.Event().wait()"]
        child = subprocess.Popen(waiting, stdout=subprocess.DEVNULL)
        with open(argument, "w") as pids:
            pids.write(str(child.pid))
        sys.exit(0)
    elif how == "exit":
        print("something\n" + request["candidate"]["variant"], file=sys.stderr)
        sys.exit(int(argument))
    elif how == "closed_pipe":
        os.close(1)
        hang()
    elif how == "signal":
        print("the last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), getattr(signal, argument))
        hang()
    elif how == "killed_after":  # so many bytes of its answer
        os.write(1, line[: int(argument) % len(line)])
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "grow":
        hoard = bytearray(int(argument))
        hoard[:: os.sysconf("SC_PAGE_SIZE")] = b"x" * len(hoard[:: os.sysconf("SC_PAGE_SIZE")])
        hang()
    elif how == "die_idle":
        say(good)
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "chatter_idle":
        os.write(1, line + b"and more\n")
    else:
        raise ValueError(how)


def main() -> None:
    options = dict(argument.lstrip("-").split("=") for argument in sys.argv[1:])
    device = options.get("device", "cpu")
    breaks = options.get("breaks", "") if options.get("card") == DEVICES[device].get("uuid") else ""
    if "says" in options:
        print(options["says"], file=sys.stderr, flush=True)
    sys.stdin.readline()
    start("failed" if os.path.exists(breaks) else options.get("start", "ok"), device)
    for number, line in enumerate(sys.stdin):
        if number == 1 and breaks:
            open(breaks, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 1 and "waits" in options:
            with open(f"{options['waits']}/here", "w") as announce:
                announce.write(f"{os.getpid()}\n")
            open(f"{options['waits']}/go").close()
        request = json.loads(line)
        threading.Event().wait(float(options.get("takes", 0)))
        if number + 1 == int(options.get("hangs", 0)):
            hang()
        if request["type"] == "check":
            check(request)
        else:
            answer(request, device)


main()
