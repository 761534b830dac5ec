"""One isolate: a process on CPython with a Python Worker in it, from its start to its end."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from worker.isolate.frames import Connection
from worker.isolate.sockets import INTERNAL_ERROR

_MAIN = Path(__file__).parent / "isolate" / "main.py"
_MARGIN = 2.0  # seconds without a sign of life, past the wall limit: not even the isolate's own watch could run
_GRACE = 30.0  # seconds for a retired isolate's requests and waitUntil work, as on the platform
_RESTARTED = 1012  # "service restart": clients connect again
_FLAGS = ("-I", "-B", "-u", "-X", "faulthandler")  # -B: a file changed twice in a second is read again
_PYTHON = ("bin/python", "Scripts/python.exe")


class WorkerFault(Exception):
    """A Worker that failed: at its start, in a request, or as a process. ``told``: name, message, traceback."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        super().__init__(str(told.get("message", "")))
        self.told = told

    @property
    def close_code(self) -> int:
        """What WebSockets that it ends are closed with."""
        return int(self.told.get("close_code", INTERNAL_ERROR))


TOKEN_VARIABLE = "ROOST_TOKEN"


@dataclass(frozen=True, slots=True)
class Limits:
    """``wall``: seconds without an ``await``. ``memory``: bytes. ``None``: none.

    ``inspect``: what ``breakpoint()`` does: ``pdb``, or debugpy's host and port; ``None``: nothing.
    """

    wall: float | None = 30.0
    memory: int | None = 512 << 20
    inspect: str | None = None


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What an isolate runs. ``main``: the Worker's module in ``project``. ``bindings``: as the isolate makes them.

    ``environment``: variables of the process, beside roost's own.
    """

    name: str
    main: Path
    project: Path
    date: str
    flags: Sequence[str]
    bindings: Sequence[Mapping[str, Any]]
    limits: Limits = Limits()
    environment: Mapping[str, str] = field(default_factory=dict)

    def line(self, host: Path, door: Path) -> bytes:
        """What the isolate is told at its start."""
        folder = self.main.parent
        folders = [folder, folder / "python_modules", self.project / "python_modules"]
        told = {
            "main": str(self.main),
            "folders": list(dict.fromkeys(str(each) for each in folders)),
            "root": str(Path(__file__).parent.parent),
            "sdk": _sdk_folder(),
            "date": self.date,
            "flags": list(self.flags),
            "bindings": list(self.bindings),
            "host": str(host),
            "socket": str(door),
            "wall_limit": None if self.limits.inspect else self.limits.wall,
            "memory": self.limits.memory,
            "inspect": self.limits.inspect,
        }
        return json.dumps(told).encode() + b"\n"


class IsolateProcess:
    """A running isolate, reached at the Unix socket ``door``. ``ended``: set to what there is to say when it ends."""

    def __init__(self, spec: WorkerSpec, door: Path) -> None:
        self.ended: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self.retired = False
        self._spec = spec
        self._door = door
        self._idle: list[Connection] = []
        self._ready = asyncio.get_running_loop().create_future()
        self._process: asyncio.subprocess.Process
        self._control: asyncio.StreamWriter
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    async def start(self, host: Path) -> None:
        """Start it and return once it serves; raises :class:`WorkerFault` if it can't."""
        ours, theirs = socket.socketpair()
        inspect = self._spec.limits.inspect == "pdb"
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *(str(_interpreter(self._spec.project)), *_FLAGS, str(_MAIN), str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
                env={**_without_secrets(), **self._spec.environment},
                stdin=None if inspect else asyncio.subprocess.DEVNULL,
                start_new_session=not inspect,  # a terminal's Ctrl-C is roost's, but for a debugger
            )
        reader, self._control = await asyncio.open_connection(sock=ours)
        self._control.write(self._spec.line(host, self._door))
        self._do(self._listen(reader))
        await asyncio.wait({self._ready, self.ended}, return_when=asyncio.FIRST_COMPLETED)
        if self.ended.done():
            raise WorkerFault(self.ended.result())

    async def connection(self) -> Connection:
        """A connection for one exchange; :meth:`keep` takes it back."""
        while self._idle:
            if not (kept := self._idle.pop()).closed:
                return kept
        _, made = await asyncio.get_running_loop().create_unix_connection(Connection, str(self._door))
        return made

    def keep(self, connection: Connection) -> None:
        """Use ``connection`` again."""
        self._idle.append(connection)

    def retire(self) -> None:
        """Let it end what it has begun, and then itself; it gets some time for that."""
        if not self.retired and not self.ended.done():
            self.retired = True
            self._control.write(b"retire\n")
            self._do(self._kill_later())

    async def kill(self, told: Mapping[str, Any] | None = None) -> None:
        """End it now; ``told`` is what its requests hear."""
        if told is not None and not self.ended.done():
            self.ended.set_result(told)
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()
        self._control.close()

    def _do(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _kill_later(self) -> None:
        await asyncio.wait({self.ended}, timeout=_GRACE)
        await self.kill(_said("Reloaded", "the Worker has a newer isolate") | {"close_code": _RESTARTED})

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        limits = self._spec.limits
        silence = None if limits.inspect or limits.wall is None else limits.wall + _MARGIN
        try:
            while line := await asyncio.wait_for(reader.readline(), silence):
                told = json.loads(line)
                if "ready" in told and not self._ready.done():
                    self._ready.set_result(None)
                if "ended" in told and not self.ended.done():
                    self.ended.set_result(told["ended"])
                if self._too_large():
                    return await self.kill(_said("MemoryLimit", f"the Worker took more than {limits.memory} bytes"))
        except TimeoutError:
            return await self.kill(_said("TimeLimit", f"the Worker let nothing else run for {silence:g} seconds"))
        except ConnectionError:
            pass
        status = await self._process.wait()
        self._control.close()
        if not self.ended.done():
            self.ended.set_result(_said("Crash", f"the Worker's process ended: {_reason(status)}"))

    def _too_large(self) -> bool:
        limit = self._spec.limits.memory
        with suppress(psutil.Error):
            return limit is not None and psutil.Process(self._process.pid).memory_info().rss > limit
        return False


def _said(name: str, message: str) -> dict[str, Any]:
    return {"name": name, "message": message, "traceback": "", "fatal": True}


def _reason(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def _without_secrets() -> dict[str, str]:
    """roost's own environment, but for the token of its doors: the host shows it for the Worker."""
    return {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}


def _interpreter(project: Path) -> Path:
    """The project's own Python where it has a virtual environment, else the active one's, else roost's."""
    for environment in (project / ".venv", Path(os.environ.get("VIRTUAL_ENV") or project / "venv")):
        for python in _PYTHON:
            if (environment / python).exists():
                return environment / python
    return Path(sys.executable)


def _sdk_folder() -> str:
    spec = importlib.util.find_spec("workers")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent.parent)
