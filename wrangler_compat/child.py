"""Runs the user's own tool in this terminal, and ends it and all its children with roost."""

from __future__ import annotations

import asyncio
import signal
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from wrangler_compat.keeper import kept
from wrangler_compat.marked import MARK

_PATIENCE = 5.0  # seconds for a tool to clear up after itself


async def run_child(command: Sequence[str], environment: Mapping[str, str], folder: Path, stop: asyncio.Event) -> int:
    """The exit status of ``command``, which ends early when ``stop`` is set. The terminal is the command's own."""
    mark = uuid.uuid4().hex
    with _terminal_restored(), kept(mark):
        process = await asyncio.create_subprocess_exec(*command, env={**environment, MARK: mark}, cwd=folder)
        ended, stopped = asyncio.create_task(process.wait()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
                await asyncio.wait({ended}, timeout=_PATIENCE)
        finally:
            stopped.cancel()
        return ended.result() if ended.done() else 0


@contextmanager
def _terminal_restored() -> Iterator[None]:
    """A tool that is killed while it reads single keys leaves the terminal without echo."""
    try:
        import termios

        before = termios.tcgetattr(sys.stdin.fileno())
    except (ImportError, OSError, ValueError):  # no terminal; termios.error is an OSError only by its arguments
        yield
        return
    except Exception as error:  # termios.error, where the module is there
        if type(error).__module__ != "termios":
            raise
        yield
        return
    try:
        yield
    finally:
        with suppress(Exception):
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)
