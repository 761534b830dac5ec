"""Which roost runs on this machine: each leaves a small file while it serves, read by ``roost ps``."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Running:
    """A roost that serves: its process, its address, and the token it asks for."""

    pid: int
    url: str
    token: str | None


@contextmanager
def announced(folder: Path, running: Running) -> Iterator[None]:
    """Leave the file while the block runs; only its owner may read it, for it may hold a token.

    A cache that can't be written serves all the same: only ``roost ps`` and ``roost env`` won't find this roost.
    """
    path = _path(folder, running.pid)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(running), file)
    except OSError as error:
        _log.warning("roost ps and roost env won't find this roost: %s can't be written (%s)", folder, error.strerror)
        forget(folder, running.pid)
    try:
        yield
    finally:
        forget(folder, running.pid)


def forget(folder: Path, pid: int) -> None:
    """Delete the file of a roost that ends in the middle."""
    with suppress(OSError):
        _path(folder, pid).unlink(missing_ok=True)


def find_running(folder: Path) -> Running | None:
    """The roost that was started last and is still alive, or ``None``."""
    paths = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    return next((found for path in paths if (found := _read(path)) and _alive(found.pid)), None)


def _path(folder: Path, pid: int) -> Path:
    return folder / f"{pid}.json"


def _read(path: Path) -> Running | None:
    try:
        return Running(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None  # being written, or a killed process's half


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
