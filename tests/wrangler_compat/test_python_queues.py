"""Queues of ``roost dev`` and of the fixtures: between Workers, over a restart, and as the configuration says."""

import time
from pathlib import Path

import pytest

from tests.wrangler_compat.test_cli_vectorize import read
from tests.wrangler_compat.test_pytest_plugin import run_pytest
from tests.wrangler_compat.test_python_dev import project, roost_dev
from worker.queues import Consumer
from wrangler_compat.project import ProjectError, open_project
from wrangler_compat.python_project import read_python_project
from wrangler_compat.python_workers import refuse_second_consumers

SENDER = """
    from workers import Response, WorkerEntrypoint

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            if request.method == "POST":
                await self.env.JOBS.send(await request.text(), contentType="text")
                return Response("sent")
            return Response(await self.env.KV.get("dead") or "")

        async def queue(self, batch):
            assert batch.queue == "dead"
            for message in batch.messages:
                await self.env.KV.put("dead", message.body)
"""
SENDING = """
[[kv_namespaces]]
binding = "KV"
[[queues.producers]]
binding = "JOBS"
queue = "jobs"
[[queues.consumers]]
queue = "dead"
max_batch_timeout = 0
"""
CONSUMER = """
    from workers import WorkerEntrypoint

    class Default(WorkerEntrypoint):
        async def queue(self, batch):
            batch.retryAll()
"""
CONSUMING = """
[[queues.consumers]]
queue = "jobs"
max_batch_timeout = 0
max_retries = 1
dead_letter_queue = "dead"
"""


def test_a_message_goes_from_worker_to_worker_and_over_a_restart(tmp_path: Path) -> None:
    one = project(tmp_path / "one", "one", SENDER, SENDING) / "wrangler.toml"
    two = project(tmp_path / "two", "two", CONSUMER, CONSUMING) / "wrangler.toml"
    with roost_dev(tmp_path, "-c", str(one)) as (_, client):
        assert client.post("/", content="before").text == "sent"  # nobody consumes the queue yet
    with roost_dev(tmp_path, "-c", str(one), "-c", str(two)) as (_, client):
        while client.get("/").text != "before":
            time.sleep(0.02)
        assert client.post("/", content="after").text == "sent"
        while client.get("/").text != "after":
            time.sleep(0.02)


def test_a_changed_configuration_changes_the_consumers(tmp_path: Path) -> None:
    folder = project(tmp_path, "one", SENDER, SENDING)
    with roost_dev(folder) as (_, client):
        assert client.post("/", content="late").text == "sent"
        config = folder / "wrangler.toml"
        config.write_text(config.read_text().replace('queue = "dead"', 'queue = "jobs"'))
        source = folder / "one.py"
        source.write_text(source.read_text().replace('== "dead"', '== "jobs"'))
        while client.get("/").text != "late":
            time.sleep(0.02)


def test_messages_are_rolled_back(tmp_path: Path) -> None:
    folder = project(tmp_path, "one", SENDER, SENDING.replace('queue = "dead"', 'queue = "jobs"'))
    (folder / "one.py").write_text((folder / "one.py").read_text().replace('== "dead"', '== "jobs"'))
    tests = """
        import time
        import pytest

        @pytest.mark.parametrize("n", ["1", "2"])
        def test_what_is_sent(worker, env, n):
            assert worker.get("/").text == ""
            env.JOBS.send("ours" + n, contentType="text").result()
            while env.KV.get("dead").result() != "ours" + n:
                time.sleep(0.01)
            worker.post("/", content="theirs")
            while worker.get("/").text != "theirs":
                time.sleep(0.01)
            env.JOBS.send("left behind", contentType="text", delaySeconds=1).result()
            with pytest.raises(Exception, match="Unsupported queue message content type: xml"):
                env.JOBS.send("x", contentType="xml").result()
    """
    assert "2 passed" in run_pytest(folder, tests)
    assert not (folder / ".wrangler").exists()


WRONG = """
[[queues.producers]]
binding = "Q"
[[queues.producers]]
binding = "R"
queue = "Bad Name"
[[queues.producers]]
binding = "S"
queue = "s"
delivery_delay = 50000
[[queues.consumers]]
queue = "c"
max_batch_size = 101
max_batch_timeout = true
max_retrys = 3
[[queues.consumers]]
queue = "c"
type = "http_pull"
dead_letter_queue = "-"
"""


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(ProjectError) as mistakes:
        read(tmp_path, WRONG)
    assert str(mistakes.value).splitlines() == [
        'wrangler.toml:5: each of queues.producers needs a "binding" and a "queue"',
        "wrangler.toml:9: 'Bad Name' is no name of a queue: small letters, digits and -, 63 at most",
        "wrangler.toml:13: delivery_delay is 0 to 43200 seconds, and not 50000",
        "wrangler.toml:16: max_batch_size is a whole number from 1 to 100, and not 101",
        "wrangler.toml:17: max_batch_timeout is a whole number from 0 to 60, and not True",
        "wrangler.toml:15: c is pulled over HTTP, which roost doesn't have",
        "wrangler.toml:15: c has two consumers, and a queue has one",
        "wrangler.toml:22: '-' is no name of a queue: small letters, digits and -, 63 at most",
        'wrangler.toml:18: unexpected setting "queues.consumers.max_retrys": did you mean "max_retries"?',
    ]


@pytest.mark.parametrize("text", ['queues = "q"\n', 'queues = { producers = "q" }\n', "queues = { consumers = [1] }\n"])
def test_queues_of_another_shape_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ProjectError) as mistakes:
        read(tmp_path, text)
    assert str(mistakes.value).count('"queues" must be a table with lists of "producers" and "consumers"') == 1


def test_what_is_right_is_read(tmp_path: Path) -> None:
    more = read(tmp_path, SENDING + CONSUMING).more
    assert more.queues == {"JOBS": ("jobs", 0)}
    assert more.consumers == (Consumer("dead", timeout=0), Consumer("jobs", 10, 0, 1, 0, "dead"))


def test_two_workers_do_not_consume_one_queue(tmp_path: Path) -> None:
    found = [
        read_python_project(open_project(project(tmp_path / name, name, CONSUMER, CONSUMING)), allow_missing=False)
        for name in ("one", "two")
    ]
    with pytest.raises(ProjectError, match="jobs is consumed by one and by two, and a queue has one consumer"):
        refuse_second_consumers(found)
