"""Compiles the costliest kernels of `fast` at medium for the small card, which need not be there.

Prints what each form takes. A program of its own: under the interpreter, which the tests run in, Triton
cannot compile.
"""

from __future__ import annotations

import json

from phase8_tune.benchmarks.registers import compiled, costliest, launched
from phase8_tune.benchmarks.registers_report import SMALL_CARD, VERSION, limit_bytes
from phase8_tune.tuner.compiling.dynamo import leave_dynamo_out

_MODEL = "medium"

if __name__ == "__main__":
    leave_dynamo_out()
    costly = costliest(_MODEL)
    for form in launched(VERSION, _MODEL, SMALL_CARD):
        if form.name in costly:
            taken = compiled(form, SMALL_CARD)
            shared = {form.name: taken["shared_bytes"]}
            fixed = {"limit_bytes": limit_bytes(SMALL_CARD), "kernel": form.name}
            print(json.dumps(fixed | taken | {"shared_bytes": shared}))
