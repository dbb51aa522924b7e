"""A child of the doctor that misbehaves on command: `doctor_child.py HOW [TEXT]`; standard library only."""

from __future__ import annotations

import os
import signal
import sys
import threading

how, text = sys.argv[1], (sys.argv[2:] or [""])[0]
if how == "says":
    print("a library says hello")
    print(text)
elif how == "exits":
    print("Traceback\n" + text, file=sys.stderr)
    sys.exit(3)
elif how == "signal":
    print("last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), getattr(signal, text))
elif how == "hangs":
    threading.Event().wait()
else:
    raise ValueError(how)
