"""``roost dev`` for Python Workers: the command itself, real weights behind ``env.AI``."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import httpx
import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.worker.asking import ENDLESS, MODEL
from wrangler_compat.marked import MARK

ROOST = str(Path(sys.executable).with_name("roost"))

CONFIG = """
name = "{name}"
main = "{name}.py"
compatibility_date = "2026-01-01"
compatibility_flags = ["python_workers"]
"""
AI = f"""
from workers import Response, WorkerEntrypoint

MODEL = {MODEL!r}
ASKED = {{"prompt": "Hello", "max_tokens": 8, "temperature": 0}}

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        AI, path = self.env.AI, request.url.rpartition("/")[2]
        if path == "result":
            found = await AI.run(MODEL, ASKED)
            return Response.json([found["response"], found.response, found.usage.total_tokens, found["usage"]])
        if path == "stream":
            return Response(await AI.run(MODEL, {{**ASKED, "stream": True}}))
        if path == "iterated":
            stream = await AI.run(MODEL, {{**ASKED, "stream": True}})
            return Response("".join([chunk.to_bytes().decode() async for chunk in stream]))
        if path == "raw":
            raw = await AI.run(MODEL, ASKED, returnRawResponse=True)
            return Response.json([type(raw).__name__, raw.status, (await raw.json())["response"]])
        if path == "models":
            return Response.json([[model.name for model in await AI.models(search="starling")]])
        if path == "gateway":
            return Response(await AI.gateway("mine").getUrl("workers-ai"))
        if path == "endless":
            return Response(await AI.run(MODEL, {ENDLESS!r} | {{"stream": True}}))
        try:
            await AI.run("@cf/no/such" if path == "unknown" else MODEL, {{"prompt": "x", "temperature": 9}})
        except Exception as error:
            return Response.json([error.name, error.message])
"""


@contextmanager
def roost_dev(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A client of the Worker that ``roost dev`` serves in ``folder``; roost is ended after the block."""
    command = [ROOST, "dev", "--offline", "--port", "0", "--doors-port", "0", *options]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if found := re.search(r"Worker ready on (\S+)", line):
                break
        else:
            pytest.fail("".join(said))
        try:
            with httpx.Client(base_url=found[1], timeout=60) as client:
                yield process, client
        finally:
            process.terminate()
            process.communicate(timeout=60)


def project(folder: Path, name: str, source: str, more: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "wrangler.toml").write_text(CONFIG.format(name=name) + more)
    (folder / f"{name}.py").write_text(dedent(source))
    return folder


@pytest.mark.weights
def test_the_ai_binding_is_the_platforms(tmp_path: Path) -> None:
    with roost_dev(project(tmp_path, "entry", AI, '[ai]\nbinding = "AI"')) as (_, client):
        one, other, total, usage = client.get("/result").json()
        assert one == other != ""
        assert total == usage["total_tokens"]
        stream = client.get("/stream").text
        assert stream.endswith("data: [DONE]\n\n")
        assert re.sub(r'"usage":.*', "", client.get("/iterated").text) == re.sub(r'"usage":.*', "", stream)
        assert client.get("/raw").json() == ["Response", 200, one]
        assert client.get("/models").json() == [[MODEL]]
        assert client.get("/gateway").text.endswith("/mine/workers-ai")
        name, message = client.get("/bad").json()
        assert (name, message[:5]) == ("AiError", "5006:")
        assert client.get("/unknown").json() == ["AiError", "5007: No such model @cf/no/such or task"]


@pytest.mark.weights
def test_a_browser_that_leaves_stops_the_engine(tmp_path: Path) -> None:
    with roost_dev(project(tmp_path, "entry", AI, '[ai]\nbinding = "AI"')) as (process, client):
        doors = next(
            f"http://127.0.0.1:{each.laddr.port}"
            for each in psutil.Process(process.pid).net_connections("tcp")
            if each.status == "LISTEN" and str(each.laddr.port) not in str(client.base_url)
        )

        def running() -> int:
            return int(httpx.get(f"{doors}/cdn-cgi/local/ps").json()["loaded"][0]["running"])

        with client.stream("GET", "/endless") as response:
            pieces = response.iter_bytes()  # which would close the response if it were dropped
            assert next(pieces)
            assert running() == 1
        while running():
            time.sleep(0.01)


def test_state_and_secrets_are_the_projects(tmp_path: Path) -> None:
    source = """
        from workers import Response, WorkerEntrypoint

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                before = await self.env.KV.get("seen")
                await self.env.KV.put("seen", "yes")
                return Response.json([before, self.env.SECRET, self.env.A])
    """
    more = '[vars]\nA = "a"\nSECRET = "top"\n[[kv_namespaces]]\nbinding = "KV"\nid = "1"'
    folder = project(tmp_path, "entry", source, more)
    (folder / ".dev.vars").write_text("SECRET='of mine'")
    for before in (None, "yes"):
        with roost_dev(folder) as (_, client):
            assert client.get("/").json() == [before, "of mine", "a"]
            (folder / ".dev.vars").write_text("SECRET='changed'")
            while client.get("/").json()[1] != "changed":
                time.sleep(0.02)
            (folder / ".dev.vars").write_text("SECRET='of mine'")
    assert (folder / ".wrangler" / "state" / "roost" / "kv.sqlite").exists()


def test_several_workers_are_bound_together(tmp_path: Path) -> None:
    source = """
        from workers import Response, WorkerEntrypoint

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                return Response(await self.env.OTHER.double(21))
    """
    other = """
        from workers import WorkerEntrypoint

        class Default(WorkerEntrypoint):
            def double(self, number):
                return str(2 * number)
    """
    one = project(tmp_path / "one", "one", source, '[[services]]\nbinding = "OTHER"\nservice = "other"')
    two = project(tmp_path / "two", "other", other)
    with roost_dev(tmp_path, "-c", str(one / "wrangler.toml"), "-c", str(two / "wrangler.toml")) as (_, client):
        assert client.get("/").text == "42"
    alone = subprocess.run([ROOST, "dev", "--offline"], cwd=one, capture_output=True, text=True, check=False)
    assert alone.returncode == 1
    assert "OTHER is the Worker other, which isn't here" in alone.stderr


MISSING = """
    from workers import Response, WorkerEntrypoint

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            try:
                self.env.DB.prepare("SELECT 1")
            except RuntimeError as error:
                return Response(str(error))
"""


def test_a_missing_binding_stops_at_the_start_unless_allowed(tmp_path: Path) -> None:
    folder = project(tmp_path, "entry", MISSING, '[[hyperdrive]]\nbinding = "DB"')
    refused = subprocess.run([ROOST, "dev", "--offline"], cwd=folder, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: wrangler.toml:7: DB is one of hyperdrive, which roost doesn't have")
    with roost_dev(folder, "--allow-missing") as (_, client):
        assert client.get("/").text.startswith("DB is one of hyperdrive, which roost doesn't have: docs/coverage.md")


OBJECTS = """
    from workers import DurableObject, Response, WorkerEntrypoint

    class Room(DurableObject):
        def __init__(self, ctx, env):
            raise AssertionError("an object without the laws of one")

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            if request.url.endswith("/plain"):
                return Response("plain")
            try:
                return await self.env.ROOM.get(self.env.ROOM.idFromName("a")).fetch(request)
            except RuntimeError as error:
                return Response(str(error))
"""
ROOM = """
[[durable_objects.bindings]]
name = "ROOM"
class_name = "Room"

[[migrations]]
tag = "v1"
new_sqlite_classes = ["Room"]
"""


def test_a_durable_object_stops_the_start_or_its_use_and_is_never_made(tmp_path: Path) -> None:
    folder = project(tmp_path, "entry", OBJECTS, ROOM)
    refused = subprocess.run([ROOST, "dev", "--offline"], cwd=folder, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "ROOM is one of durable_objects, which roost doesn't have" in refused.stderr
    with roost_dev(folder, "--allow-missing") as (_, client):
        assert client.get("/plain").text == "plain"
        assert client.get("/").text.startswith("ROOM is one of durable_objects, which roost doesn't have")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_however_roost_ends_its_isolates_end_too(tmp_path: Path, signum: signal.Signals) -> None:
    source = """
        import os, subprocess
        from workers import Response, WorkerEntrypoint

        child = subprocess.Popen(["sleep", "1000"])

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                return Response.json([os.getpid(), child.pid, os.environ["ROOST_MARK"]])
    """
    with roost_dev(project(tmp_path, "entry", source)) as (process, client):
        pid, child, mark = client.get("/").json()
        assert psutil.Process(child).environ()[MARK] == mark
        process.send_signal(signum)
        process.wait(timeout=60)
        while any(psutil.pid_exists(each) and psutil.Process(each).status() != "zombie" for each in (pid, child)):
            time.sleep(0.01)


async def test_a_websocket_is_closed_when_roost_ends_and_refused_to_foreign_hosts(tmp_path: Path) -> None:
    source = """
        from js import WebSocketPair
        from workers import Response, WorkerEntrypoint

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                client, server = WebSocketPair.new().object_values()
                server.accept()
                server.addEventListener("message", lambda event: server.send(request.url + event.data))
                return Response(None, status=101, web_socket=client)
    """
    with roost_dev(project(tmp_path, "entry", source)) as (process, client):
        url = str(client.base_url).replace("http", "ws", 1)
        with pytest.raises(InvalidStatus) as caught:
            await connect("ws://evil.example/", host="127.0.0.1", port=client.base_url.port)
        assert caught.value.response.status_code == 403
        async with connect(url) as connection:
            await connection.send("?")
            assert await connection.recv() == f"{client.base_url}/?".replace("//?", "/?")
            process.terminate()
            with pytest.raises(ConnectionClosed):
                await connection.recv()
            assert connection.close_code == 1001


STORING = """
    from workers import Response, WorkerEntrypoint

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            db, bucket = self.env.DB, self.env.BUCKET
            await db.exec("CREATE TABLE IF NOT EXISTS t (n)")
            await db.prepare("INSERT INTO t SELECT count(*) FROM t").run()
            before = await bucket.get("count")
            await bucket.put("count", str(await db.prepare("SELECT count(*) c FROM t").first("c")))
            return Response(await before.text() if before else "none")
"""
STORES = (
    '[[d1_databases]]\nbinding = "DB"\ndatabase_id = "id"\n[[r2_buckets]]\nbinding = "BUCKET"\nbucket_name = "images"\n'
)


def test_rows_and_objects_outlast_roost_where_wrangler_has_its_own(tmp_path: Path) -> None:
    folder = project(tmp_path, "entry", STORING, STORES)
    for expected in ("none", "1", "2"):
        with roost_dev(folder) as (_, client):
            assert client.get("/").text == expected
    (database,) = (folder / ".wrangler/state/v3/d1/miniflare-D1DatabaseObject").glob("*.sqlite")
    assert len(database.stem) == 64
    assert len(list((folder / ".wrangler/state/v3/r2/images/blobs").iterdir())) == 1
