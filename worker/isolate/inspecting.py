"""What ``breakpoint()`` does in a Worker: nothing, pdb in roost's terminal, or an editor's debugger over debugpy."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from typing import Any

_AGAIN = 0.2  # seconds until a port is tried again, which the isolate before this one still has


def set_breakpoint_hook(inspect: str | None) -> None:
    """``inspect``: ``pdb``, or the host and the port for debugpy; ``None``: breakpoints are passed over."""
    if inspect is None:
        sys.breakpointhook = _passed_over
    elif inspect != "pdb":
        _debugpy(inspect)


def _passed_over(*_: object, **__: object) -> None:
    _say("breakpoint() was passed over: start roost dev --inspect to stop there")


def _debugpy(address: str) -> None:
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    try:
        debugpy: Any = importlib.import_module("debugpy")
    except ImportError:
        return _say("debugpy isn't in the Worker's environment (pip install debugpy): breakpoint() stops here, in pdb")
    host, _, port = address.rpartition(":")
    listening = threading.Event()

    def listen() -> None:
        told = ""
        while True:
            try:
                debugpy.listen((host, int(port)))
            except (RuntimeError, OSError) as error:
                if told != (told := str(error)):
                    _say(f"debugpy can't listen on {address} yet: {told}")
                time.sleep(_AGAIN)
            else:
                break
        listening.set()
        _say(f"debugpy listens on {address}")

    def stop(*_: object, **__: object) -> None:
        listening.wait()
        if not debugpy.is_client_connected():
            _say(f"breakpoint() waits for a debugger on {address}")
            debugpy.wait_for_client()
        debugpy.breakpoint()

    threading.Thread(target=listen, daemon=True).start()
    sys.breakpointhook = stop


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)  # noqa: T201
