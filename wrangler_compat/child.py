"""Runs the user's own tool in this terminal, and ends it and all its children with roost."""

from __future__ import annotations

import asyncio
import signal
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from wrangler_compat.ending import KILLED
from wrangler_compat.keeper import kept
from wrangler_compat.marked import MARK

_TOOLS = ("wrangler", "workerd")  # by their names in commands, which may begin with node
_PATIENCE = 5.0  # seconds for a tool to clear up after itself


async def run_child(command: Sequence[str], environment: Mapping[str, str], folder: Path, stop: asyncio.Event) -> int:
    """The exit status of ``command``, which ends early when ``stop`` is set. The terminal is the command's own.

    A tool that something else killed isn't started anew: a sentence says so, and the status is a shell's, 128 + signal.
    """
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
        status = ended.result() if ended.done() else 0
        if status < 0 and not stop.is_set():
            return _killed(command, -status)
        return max(0, status)


def _killed(command: Sequence[str], signum: int) -> int:
    """Say what killed the tool; the status that tells it."""
    tool = next((name for part in command if (name := Path(part).stem) in _TOOLS), Path(command[0]).name)
    click.echo(f"Error: {tool} was killed ({signal.Signals(signum).name}), and roost ends with it", err=True)
    return KILLED + signum


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
