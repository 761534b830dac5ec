"""``breakpoint()`` in a Worker under ``roost dev``: passed over, in pdb, and in an editor's debugger."""

import itertools
import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from click.testing import CliRunner

from tests.wrangler_compat.node_tools import free_port
from tests.wrangler_compat.test_python_dev import ROOST, project, roost_dev
from wrangler_compat.cli import main

SOURCE = """
    from workers import Response, WorkerEntrypoint

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            word = "before"
            if "stop" in request.url:
                breakpoint()
            return Response(word)
"""
COMMAND = [ROOST, "dev", "--offline", "--port", "0", "--doors-port", "0", "--wall-limit", "0.2"]
PAST_THE_LIMIT = 3.0  # seconds: the wall limit and roost's own margin past it


@contextmanager
def inspected(folder: Path, option: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``roost dev`` with a terminal that a test writes to, and its address."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen([*COMMAND, option], cwd=folder, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process, said(process, r"Worker ready on (\S+)")
        finally:
            process.terminate()
            process.communicate(timeout=60)


def said(process: subprocess.Popen[str], pattern: str) -> str:
    """What a group of ``pattern`` is in the first line that has it."""
    assert process.stdout is not None
    return next(found[1] for line in process.stdout if (found := re.search(pattern, line)))


def test_without_inspect_it_is_passed_over(tmp_path: Path) -> None:
    with roost_dev(project(tmp_path, "entry", SOURCE)) as (_, client):
        assert client.get("/stop").text == "before"


def test_it_stops_in_the_terminal_for_as_long_as_it_likes(tmp_path: Path) -> None:
    answers: list[str] = []
    with inspected(project(tmp_path, "entry", SOURCE), "--inspect") as (process, url):
        asking = threading.Thread(target=lambda: answers.append(httpx.get(f"{url}/stop", timeout=60).text))
        asking.start()
        said(process, "-> (return)")
        time.sleep(PAST_THE_LIMIT)
        assert process.stdin is not None
        process.stdin.write("word = 'after'\nc\n")
        process.stdin.flush()
        asking.join()
        assert answers == ["after"]


class Editor:
    """As much of an editor's Debug Adapter Protocol as it takes to stop, look, change and go on."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._reader = self._socket.makefile("rb")
        self._numbers = itertools.count(1)

    def ask(self, command: str, **arguments: Any) -> int:
        number = next(self._numbers)
        sent = json.dumps({"seq": number, "type": "request", "command": command, "arguments": arguments}).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(sent), sent))
        return number

    def heard(self, **wanted: Any) -> dict[str, Any]:
        """The next message with these entries."""
        while True:
            size = 0
            while (line := self._reader.readline().strip()) or not size:
                size = int(line.rpartition(b":")[2])
            told: dict[str, Any] = json.loads(self._reader.read(size))
            if wanted.items() <= told.items():
                return told

    def attach(self) -> None:
        self.ask("initialize", adapterID="roost")
        self.heard(command="initialize")
        self.ask("attach", justMyCode=False)
        self.heard(event="initialized")
        self.ask("configurationDone")
        self.heard(command="attach")

    def close(self) -> None:
        self._reader.close()
        self._socket.close()


def test_an_editor_attaches_and_looks_for_as_long_as_it_likes(tmp_path: Path) -> None:
    port, answers = free_port(), list[str]()
    with inspected(project(tmp_path, "entry", SOURCE), f"--inspect={port}") as (process, url):
        asking = threading.Thread(target=lambda: answers.append(httpx.get(f"{url}/stop", timeout=110).text))
        asking.start()
        said(process, "breakpoint\\(\\) (waits) for a debugger")
        editor = Editor(port)
        editor.attach()
        thread = editor.heard(event="stopped")["body"]["threadId"]
        time.sleep(PAST_THE_LIMIT)
        editor.ask("stackTrace", threadId=thread)
        frames = editor.heard(command="stackTrace")["body"]["stackFrames"]
        frame = next(each for each in frames if each["name"] == "fetch")
        editor.ask("evaluate", expression="word", frameId=frame["id"])
        assert "before" in editor.heard(command="evaluate")["body"]["result"]
        editor.ask("continue", threadId=thread)
        asking.join()
        assert answers == ["before"]
        editor.close()


def test_what_is_no_debugger_is_refused() -> None:
    result = CliRunner().invoke(main, ["dev", "--inspect=some"])
    assert result.exit_code == 2
    assert "some is none of pdb, debugpy, PORT and HOST:PORT" in result.stderr
