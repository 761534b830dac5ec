"""The fixtures that an installed roost brings to a user's pytest."""

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.worker.asking import MODEL
from tests.wrangler_compat.test_python_dev import project

WORKER = f"""
    from workers import Response, WorkerEntrypoint

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            if request.url.endswith("/stream"):
                return Response(await self.env.AI.run({MODEL!r}, {{"prompt": "Hi", "stream": True}}))
            if request.url.endswith("/ask"):
                try:
                    answer = await self.env.AI.run({MODEL!r}, {{"prompt": await request.text(), "max_tokens": 4}})
                except Exception as error:
                    return Response(error.message, status=502)
                return Response(answer.response)
            seen = int(await self.env.KV.get("seen") or 0) + 1
            await self.env.KV.put("seen", str(seen))
            return Response(f"{{self.env.A}} {{seen}}")

        async def scheduled(self, controller, env, ctx):
            if controller.cron == "bad":
                raise ValueError("no")
            await env.KV.put("ran", f"{{controller.cron}} {{controller.scheduledTime}}")
"""
MORE = '[ai]\nbinding = "AI"\n[[kv_namespaces]]\nbinding = "KV"\n[vars]\nA = "top"\n[env.other.vars]\nA = "other"\n'
TESTS = """
    import pytest
    from worker import AiError

    @pytest.mark.parametrize("n", [1, 2])
    def test_storage_is_rolled_back(worker, env, n):
        assert worker.get("/").text == "top 1"
        assert worker.get("/").text == "top 2"
        assert env.KV.get("seen").result() == "2"
        assert env.A == "top"

    def test_what_a_test_stores_the_worker_finds(worker, env):
        env.KV.put("seen", "41", metadata={"a": 1}).result()
        assert worker.get("/").text == "top 42"

    def test_the_schedule(worker, env):
        worker.scheduled("0 0 * * *", 5)
        assert env.KV.get("ran").result() == "0 0 * * * 5"
        with pytest.raises(Exception, match="no"):
            worker.scheduled("bad")

    def test_fixed_words(worker, roost_ai):
        roost_ai.answers("the sky is blue")
        assert worker.post("/ask", content="Why?").text == "the sky is blue"
        assert worker.get("/stream").text.startswith('data: {"response":"the "}')
        assert roost_ai.calls[0][1]["prompt"] == "Why?"

    def test_a_function(worker, roost_ai):
        def answer(model, inputs):
            if inputs["prompt"] == "bad":
                raise AiError(3040, 429, "Capacity temporarily exceeded, please try again.")
            return inputs["prompt"].upper()
        roost_ai.answers(answer)
        assert worker.post("/ask", content="why").text == "WHY"
        refused = worker.post("/ask", content="bad")
        assert (refused.status_code, refused.text[:5]) == (502, "3040:")

    def test_the_model_itself(worker, roost_ai):
        assert worker.post("/ask", content="Hello").text
"""


def run_pytest(folder: Path, tests: str, *options: str) -> str:
    (folder / "test_it.py").write_text(dedent(tests))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return ended.stdout + ended.stderr


@pytest.mark.weights
def test_a_worker_is_tested_without_a_server(tmp_path: Path) -> None:
    folder = project(tmp_path, "entry", WORKER, MORE)
    assert "7 passed" in run_pytest(folder, TESTS)
    assert not (folder / ".wrangler").exists()


def test_a_marker_names_the_project(tmp_path: Path) -> None:
    project(tmp_path / "a", "entry", WORKER, '[vars]\nA = "top"\n[env.other.vars]\nA = "other"\n')
    tests = """
        import pytest

        @pytest.mark.roost(config="a/wrangler.toml", environment="other")
        def test_one(env):
            assert env.A == "other"

        @pytest.mark.roost(config="a/wrangler.toml")
        async def test_other(env):
            assert env.A == "top"
            with pytest.raises(AttributeError, match="env has no B: it has A"):
                env.B
    """
    assert "2 passed" in run_pytest(tmp_path, tests, "-o", "asyncio_mode=auto")


def test_a_test_asks_assets_and_other_workers(tmp_path: Path) -> None:
    other = """
        from workers import Response, WorkerEntrypoint

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                return Response(await request.text() + " there", status=201, headers={"x-method": request.method})
    """
    more = '[[services]]\nbinding = "OTHER"\nservice = "b"\n[assets]\ndirectory = "public"\nbinding = "ASSETS"\n'
    project(tmp_path / "a", "entry", WORKER, more)
    (tmp_path / "a" / "public").mkdir()
    (tmp_path / "a" / "public" / "page.txt").write_text("a page")
    config = project(tmp_path / "b", "entry", other) / "wrangler.toml"
    config.write_text(re.sub('name = ".*"', 'name = "b"', config.read_text(), count=1))
    tests = """
        import pytest

        @pytest.mark.roost(config=["a/wrangler.toml", "b/wrangler.toml"])
        def test_both(env):
            answer = env.OTHER.fetch("http://b/", "POST", {"a": "b"}, b"hello").result()
            assert (answer.status_code, answer.text, answer.headers["x-method"]) == (201, "hello there", "POST")
            assert env.ASSETS.fetch("http://a/page.txt").result().text == "a page"
    """
    assert "1 passed" in run_pytest(tmp_path, tests)


STORING = """
    from workers import Response, WorkerEntrypoint

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            await self.env.DB.exec("CREATE TABLE IF NOT EXISTS seen (n INTEGER)")
            await self.env.DB.prepare("INSERT INTO seen VALUES (?)").bind(1).run()
            rows = await self.env.DB.prepare("SELECT * FROM seen").all()
            await self.env.BUCKET.put("rows", str(len(rows["results"])), httpMetadata={"contentType": "text/x"})
            found = await self.env.BUCKET.get("ours")
            return Response(await found.text() if found else "none")
"""
STORES = '[[d1_databases]]\nbinding = "DB"\n[[r2_buckets]]\nbinding = "BUCKET"\nbucket_name = "my-bucket"\n'


def test_rows_and_objects_are_rolled_back(tmp_path: Path) -> None:
    folder = project(tmp_path, "entry", STORING, STORES)
    tests = """
        import datetime
        import pytest

        @pytest.mark.parametrize("n", [1, 2])
        def test_what_the_worker_stores(worker, env, n):
            assert worker.get("/").text == "none"
            assert env.DB.prepare("SELECT count(*) c FROM seen WHERE n=?").bind(1).first("c").result() == 1
            found = env.BUCKET.get("rows").result()
            assert (found.key, found.size, found.httpMetadata) == ("rows", 1, {"contentType": "text/x"})
            assert found.text().result() == "1"
            assert found.uploaded.tzinfo is datetime.UTC
            assert env.BUCKET.get("none").result() is None

        def test_what_the_test_stores(worker, env):
            env.BUCKET.put("ours", b"theirs", customMetadata={"a": "1"}).result()
            assert worker.get("/").text == "theirs"
            listed = env.BUCKET.list(include=["customMetadata"]).result()["objects"]
            assert listed[0].customMetadata == {"a": "1"}
            first = env.DB.prepare("INSERT INTO seen VALUES (?)").bind(5)
            counted = env.DB.batch([first, env.DB.prepare("SELECT count(*) c FROM seen")]).result()[1]
            assert counted["results"] == [{"c": 2}]
            with pytest.raises(Exception, match="D1_ERROR: no such table: nope: SQLITE_ERROR"):
                env.DB.prepare("SELECT * FROM nope").all().result()

        async def test_calls_can_be_awaited(worker, env):
            assert await env.DB.prepare("SELECT ? a").bind(None).all() is not None
            upload = await env.BUCKET.createMultipartUpload("parts")
            part = await upload.uploadPart(1, "x")
            assert (await upload.complete([part])).size == 1
    """
    assert "4 passed" in run_pytest(folder, tests, "-o", "asyncio_mode=auto")
    assert not (folder / ".wrangler").exists()


FINDING = """
    from workers import Response, WorkerEntrypoint

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            if not (await self.env.RATE.limit({"key": "all"})).success:
                return Response("too many", status=429)
            found = await self.env.INDEX.query([1, 0])
            await self.env.INDEX.insert([{"id": "mine", "values": [0, 1]}])
            return Response(",".join(each.id for each in found.matches) + "/" + self.env.VERSION.id)
"""
FOUND = """[[vectorize]]
binding = "INDEX"
index_name = "docs"
dimensions = 2
metric = "cosine"
[[ratelimits]]
name = "RATE"
namespace_id = "1"
simple = { limit = 2, period = 60 }
[version_metadata]
binding = "VERSION"
"""


def test_vectors_are_rolled_back(tmp_path: Path) -> None:
    folder = project(tmp_path, "entry", FINDING, FOUND)
    tests = """
        import pytest

        @pytest.mark.parametrize("n", [1, 2])
        def test_what_is_stored(worker, env, n):
            assert env.INDEX.describe().result()["vectorCount"] == 0
            env.INDEX.insert([{"id": "ours", "values": [1, 0]}]).result()
            assert worker.get("/").text == "ours/" + env.VERSION["id"]
            assert env.INDEX.describe().result()["vectorCount"] == 2
    """
    assert "2 passed" in run_pytest(folder, tests)
    assert not (folder / ".wrangler").exists()
