"""What a running ``roost dev`` takes up of changes: files, variables, bindings; and what it keeps meanwhile."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.worker.asking import MODEL
from tests.wrangler_compat.test_python_dev import project, roost_dev

SOURCE = """
    import asyncio, pathlib
    from workers import Response, WorkerEntrypoint

    WORD = "before"

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            env, names = self.env, ("A", "KV", "OTHER", "SECRET")
            if "slow" in request.url:
                pathlib.Path("FOLDER/begun").touch()
                while not pathlib.Path("FOLDER/go").exists():
                    await asyncio.sleep(0.01)
                await env.KV.put("kept", "by the old one")
            if "kept" in request.url:
                return Response(await env.OTHER.get("kept"))
            return Response.json([WORD, env.A, [name for name in names if hasattr(env, name)]])
"""
BEFORE = '[vars]\nA = "a"\n[[kv_namespaces]]\nbinding = "KV"\nid = "1"\n'
AFTER = '[vars]\nA = "b"\n[[kv_namespaces]]\nbinding = "OTHER"\nid = "1"\n'


def until(found: Callable[[], Any], wanted: Any) -> None:
    """Return once it is there; whoever waits for ever is ended by the test's own limit."""
    while found() != wanted:
        time.sleep(0.02)


def written(folder: Path, more: str) -> None:
    """``folder``'s configuration, replaced at once."""
    text = (folder / "wrangler.toml").read_text()
    (folder / "wrangler.new").write_text(text.partition("[vars")[0] + more)
    (folder / "wrangler.new").replace(folder / "wrangler.toml")


def test_changed_bindings_are_taken_up_and_mistakes_are_not(tmp_path: Path) -> None:
    folder = project(tmp_path / "p", "entry", SOURCE.replace("FOLDER", str(tmp_path)), BEFORE)
    slow: list[httpx.Response] = []
    with roost_dev(folder) as (_, client):

        def told() -> Any:
            return client.get("/").json()

        assert told() == ["before", "a", ["A", "KV"]]
        asking = threading.Thread(target=lambda: slow.append(httpx.get(client.base_url.join("/slow"), timeout=60)))
        asking.start()
        until((tmp_path / "begun").exists, True)
        written(folder, AFTER)
        until(told, ["before", "b", ["A", "OTHER"]])
        (folder / "entry.py").write_text((folder / "entry.py").read_text().replace('"before"', '"after"'))
        until(told, ["after", "b", ["A", "OTHER"]])
        assert asking.is_alive()
        (tmp_path / "go").touch()
        asking.join()
        assert slow[0].json() == ["before", "a", ["A", "KV"]]
        assert client.get("/kept").text == "by the old one"
        for mistake in (
            "[vars]\n[[d1_databases]]\nbinding = 'DB'\n",
            "[vars",
            "[vars]\n[[services]]\nbinding='S'\nservice='no'",
        ):
            written(folder, mistake)
            (folder / "entry.py").write_text((folder / "entry.py").read_text().replace("after", f"after{len(mistake)}"))
            until(lambda: told()[0].startswith("after") and told()[1:], ["b", ["A", "OTHER"]])
        written(folder, AFTER.replace('"b"', '"c"'))
        until(lambda: told()[1], "c")
        (folder / ".dev.vars").write_text("SECRET=s")
        until(lambda: told()[2], ["A", "OTHER", "SECRET"])


@pytest.mark.weights
def test_loaded_models_stay(tmp_path: Path) -> None:
    source = f"""
        from workers import Response, WorkerEntrypoint

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                if "ask" in request.url:
                    await self.env.AI.run({MODEL!r}, {{"prompt": "Hello", "max_tokens": 4}})
                return Response("before")
    """
    folder = project(tmp_path, "entry", source, '[ai]\nbinding = "AI"')
    with roost_dev(folder) as (process, client):
        ports = [
            each.laddr.port for each in psutil.Process(process.pid).net_connections("tcp") if each.status == "LISTEN"
        ]
        doors = next(port for port in ports if port != client.base_url.port)

        def loaded() -> list[str]:
            found = httpx.get(f"http://127.0.0.1:{doors}/cdn-cgi/local/ps").json()["loaded"]
            return [json.dumps({name: each[name] for name in each if "seconds" not in name}) for each in found]

        client.get("/ask")
        before = loaded()
        assert len(before) == 1  # and has counted its tokens, which a fresh one would not
        (folder / "entry.py").write_text((folder / "entry.py").read_text().replace("before", "after"))
        until(lambda: client.get("/").text, "after")
        assert loaded() == before


def test_env_files_take_the_place_of_the_usual_ones(tmp_path: Path) -> None:
    source = """
        from workers import Response, WorkerEntrypoint

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                return Response.json([self.env.A, self.env.B, hasattr(self.env, "C")])
    """
    folder = project(tmp_path / "p", "entry", source)
    (folder / ".dev.vars").write_text("C=c")
    (tmp_path / "one.env").write_text("A=one\nB=one")
    (folder / "two.env").write_text("B=two")
    with roost_dev(folder, "--env-file", "../one.env", "--env-file", "two.env") as (_, client):
        assert client.get("/").json() == ["one", "two", False]
        (tmp_path / "one.env").write_text("A=changed")
        until(lambda: client.get("/").json(), ["changed", "two", False])


WRITING = """
    from pathlib import Path
    from workers import Response, WorkerEntrypoint

    calls = 0

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            global calls
            calls += 1
            for name in ("worker.log", "rows.sqlite", "rows.sqlite-wal", "draft.txt~"):
                Path(__file__).with_name(name).write_text(str(calls))
            return Response(str(calls))
"""


def test_what_a_worker_writes_does_not_reload_it(tmp_path: Path) -> None:
    with roost_dev(project(tmp_path, "entry", WRITING)) as (_, client):
        for expected in range(1, 12):
            assert client.get("/").text == str(expected)
            time.sleep(0.1)  # longer than changes are gathered
