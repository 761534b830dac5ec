"""A ``roost serve`` in a process of its own, and what it holds: memory, descriptors, threads, rows, queue."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOST = str(Path(sys.executable).with_name("roost"))
_PATIENCE = 30.0  # seconds, for what clients left behind to be cleared away
_LOOK_EVERY = 0.05


@dataclass(frozen=True, slots=True)
class Levels:
    """What a roost holds. ``megabytes``: resident."""

    megabytes: float
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Roost:
    """A running roost, and the file that its error stream goes to."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    def engine(self) -> dict[str, Any]:
        """The only engine's row of ``roost ps``."""
        (row,) = httpx.get(f"{self.url}/cdn-cgi/local/ps", timeout=60).raise_for_status().json()["loaded"]
        return dict(row)

    def levels(self) -> Levels:
        """What it holds now."""
        process = psutil.Process(self.process.pid)
        with process.oneshot():
            return Levels(process.memory_info().rss / 1e6, process.num_fds(), process.num_threads())

    def idle(self) -> dict[str, Any]:
        """The engine's row once nothing runs or waits."""
        until = time.monotonic() + _PATIENCE
        while ((row := self.engine())["running"] or row["waiting"]) and time.monotonic() < until:
            time.sleep(_LOOK_EVERY)
        assert (row["running"], row["waiting"], row["cached_tokens"]) == (0, 0, 0)
        return row

    def settled(self, before: Levels) -> Levels:
        """What it holds once descriptors are back at ``before``, or as long after as is patient."""
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            now = self.levels()
            if now.descriptors <= before.descriptors:
                break
            time.sleep(_LOOK_EVERY)
        return now


@contextmanager
def serving(cache: Path, *arguments: str, no_port: bool = False, log: Path | None = None) -> Iterator[Roost]:
    """``roost serve`` over the artifacts in ``cache`` while the block runs; on any port, or where it likes."""
    log = log or cache / "stderr.txt"
    command = [ROOST, "serve", "--offline", *([] if no_port else ["--port", "0"]), *arguments]
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, env={**os.environ, "ROOST_CACHE": str(cache)}, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    assert process.stdout is not None
    try:
        ready = next((line for line in process.stdout if line.startswith("Ready on ")), None)
        assert ready is not None, log.read_text()
        yield Roost(process, ready.removeprefix("Ready on ").strip(), log)
    finally:
        process.kill()
        process.communicate()
