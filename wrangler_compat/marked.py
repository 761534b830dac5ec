"""Every process of a tool that roost started, however deep: they bear a mark in their environment, which children
inherit even where their parent has died and where they left its process group.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil

MARK = "ROOST_MARK"
_PATIENCE = 2.0  # seconds between asking and insisting
_ROUNDS = 3  # a process may start another while the first are ended


def end_marked(mark: str) -> None:
    """End all processes that bear ``mark``: asked first, killed if they stay. Returns when none is left."""
    for _ in range(_ROUNDS):
        if not (found := list(marked(mark))):
            return
        for process in found:
            with suppress(psutil.Error):
                process.terminate()
        _, stubborn = psutil.wait_procs(found, timeout=_PATIENCE)
        for process in stubborn:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(stubborn, timeout=_PATIENCE)
        time.sleep(0.01)


def marked(mark: str) -> Iterator[psutil.Process]:
    """The living processes of this user that bear ``mark``."""
    for process in psutil.process_iter():
        try:
            alive = process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE
            if alive and process.environ().get(MARK) == mark:
                yield process
        except (psutil.Error, OSError):
            continue  # another user's, or gone meanwhile
