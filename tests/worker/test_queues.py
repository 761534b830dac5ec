"""Queues as a Worker meets them: what it sends, what its handler is given, and what becomes of that."""

import asyncio
import sqlite3
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.worker.python_workers import FLAGS, python_worker, written
from worker.bindings.binding import BindingError
from worker.bindings.queue_file import Kept, QueueFile
from worker.bindings.queues import BATCH, DELAY, MANY, MESSAGE, Bells, Queue
from worker.front import Front
from worker.queues import Consumer, consume, patience, settle
from worker.server import bind, serve_until, url_of

SOURCE = """
    import os
    from workers import Response, WorkerEntrypoint

    seen = []

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            path = request.url.rpartition("/")[2]
            if path == "seen":
                return Response.json(seen)
            return await getattr(self, path)()

        async def kinds(self):
            Q = self.env.Q
            await Q.send({"a": [1, None, "é"]})
            await Q.send("words", contentType="text")
            await Q.send(b"bytes", contentType="bytes")
            await Q.sendBatch([{"body": {"deep": {1: b"x"}}, "contentType": "v8"}, {"body": None}])
            return Response("sent")

        async def refused(self):
            told = []
            for call in (
                lambda: self.env.Q.send("x", contentType="xml"),
                lambda: self.env.Q.send(1, contentType="text"),
                lambda: self.env.Q.send("x", contentType="bytes"),
                lambda: self.env.Q.send("x" * 128_000),
                lambda: self.env.Q.send("x", delaySeconds=43_201),
                lambda: self.env.Q.sendBatch([]),
                lambda: self.env.Q.sendBatch([{"body": 1}] * 101),
                lambda: self.env.Q.sendBatch([{"body": "x" * 90_000}] * 3),
                lambda: self.env.Q.sendBatch([{"body": 1}, {"body": 1, "delaySeconds": -1}]),
            ):
                try:
                    told.append(await call())
                except Exception as error:
                    told.append(str(error))
            return Response.json(told)

        async def crash(self):
            await self.env.Q.sendBatch([{"body": "crash"}, {"body": "other"}])
            return Response("sent")

        async def queue(self, batch):
            for message in batch.messages:
                body = message.body
                if body == "crash" and message.attempts == 1:
                    os.kill(os.getpid(), 9)
                shown = body.hex() if isinstance(body, bytes | memoryview) else body
                if isinstance(body, dict) and "deep" in body:
                    shown = type(body["deep"]["1"]).__name__
                seen.append([batch.queue, shown, message.attempts, len(message.id), message.timestamp.year > 2000])
"""


@asynccontextmanager
async def consuming(
    folder: Path, source: str, *consumers: Consumer, delay: int = 0, flags: tuple[str, ...] = FLAGS
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the Worker ``source``, which consumes; its binding Q is the producer of the queue jobs."""
    path, bells = folder / "queues.sqlite", Bells(asyncio.Event)
    bindings = {"Q": Queue(path, "jobs", bells, delay)}
    worker = python_worker(written(folder / "w", worker=source), bindings=bindings, flags=flags)
    listener, stop, front = bind("127.0.0.1", 0), asyncio.Event(), Front(worker)
    async with worker.running(), httpx.AsyncClient(base_url=url_of(listener), timeout=60) as client:
        tasks = [asyncio.create_task(consume(path, bells, each, front)) for each in consumers]
        serving = asyncio.create_task(serve_until(front, listener, stop))
        try:
            yield client
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            stop.set()
            await serving


async def emptied(folder: Path, queue: str = "jobs") -> None:
    """Return once ``queue`` holds no message."""
    file = QueueFile(folder / "queues.sqlite")
    while file.due(queue, 0)[1] is not None:
        await asyncio.sleep(0.005)
    file.close()


def left(folder: Path, queue: str) -> list[Kept]:
    file = QueueFile(folder / "queues.sqlite")
    found = file.batch(queue, 1000, 2**62)
    file.close()
    return found


async def test_a_handler_gets_what_was_sent(tmp_path: Path) -> None:
    async with consuming(tmp_path, SOURCE, Consumer("jobs", timeout=0)) as client:
        assert (await client.get("/kinds")).text == "sent"
        await emptied(tmp_path)
        seen = (await client.get("/seen")).json()
    assert [each[1] for each in seen] == [{"a": [1, None, "é"]}, "words", b"bytes".hex(), "memoryview", None]
    assert {(each[0], *each[2:]) for each in seen} == {("jobs", 1, 32, True)}


async def test_what_is_too_much_is_refused_whole(tmp_path: Path) -> None:
    async with consuming(tmp_path, SOURCE) as client:
        told = (await client.get("/refused")).json()
    assert told == [
        "TypeError: Unsupported queue message content type: xml",
        'TypeError: Content Type "text" requires a value of type string, but received: number',
        'TypeError: Content Type "bytes" requires a value of type ArrayBufferView, but received: string',
        f"Error: Queue send failed: message length of 128002 bytes exceeds limit of {MESSAGE}",
        f"Error: Queue send failed: delaySeconds is a whole number from 0 to {DELAY}, and not 43201",
        "TypeError: sendBatch() requires at least one message",
        f"Error: Queue send failed: batch message count of 101 exceeds limit of {MANY}",
        f"Error: Queue send failed: batch size of 270006 bytes exceeds limit of {BATCH}",
        f"Error: Queue send failed: delaySeconds is a whole number from 0 to {DELAY}, and not -1",
    ]
    assert left(tmp_path, "jobs") == []


async def test_a_killed_isolate_loses_no_message(tmp_path: Path) -> None:
    async with consuming(tmp_path, SOURCE, Consumer("jobs", timeout=0)) as client:
        assert (await client.get("/crash")).text == "sent"
        await emptied(tmp_path)
        seen = (await client.get("/seen")).json()
    assert [each[1:3] for each in seen] == [["crash", 2], ["other", 2]]


async def test_a_queue_without_a_consumer_keeps_its_messages(tmp_path: Path) -> None:
    async with consuming(tmp_path, SOURCE) as client:
        await client.get("/kinds")
    assert len(left(tmp_path, "jobs")) == 5
    async with consuming(tmp_path, SOURCE, Consumer("jobs", size=2)) as client:
        while len((await client.get("/seen")).json()) < 4:  # the fifth waits for another
            await asyncio.sleep(0.01)
    assert len(left(tmp_path, "jobs")) == 1


async def test_a_worker_that_does_not_start_costs_no_attempt(tmp_path: Path) -> None:
    async with consuming(tmp_path, SOURCE) as client:
        await client.get("/crash")
    broken = asyncio.Event()

    class Watched(Front):
        async def start(self) -> None:
            broken.set()
            await super().start()

    worker = python_worker(written(tmp_path / "broken", worker="1 +"))
    async with worker.running():
        work = consume(tmp_path / "queues.sqlite", Bells(asyncio.Event), Consumer("jobs", size=1), Watched(worker))
        task = asyncio.create_task(work)
        await broken.wait()
        with pytest.raises(Exception, match="invalid syntax"):
            await worker.isolate()
        task.cancel()
        await asyncio.wait({task})
    assert [each.attempts for each in left(tmp_path, "jobs")] == [0, 0]


PLANNED = """
    from workers import Response, WorkerEntrypoint

    batches = []

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            if request.method == "GET":
                return Response.json(batches)
            await self.env.Q.sendBatch([{"body": each} for each in await request.json()])
            return Response("sent")

        async def queue(self, batch, env, ctx):
            noted, failing = [], False
            for message in batch.messages:
                plan = message.body["plan"]
                action = plan[min(message.attempts, len(plan)) - 1]
                noted.append([message.body["name"], message.attempts, action])
                if action == "ack":
                    message.ack()
                    message.retry()  # the first decision counts
                elif action == "retry":
                    message.retry(delaySeconds=0)
                    message.ack()
                elif action == "raise":
                    failing = True
                elif action in ("ackAll", "retryAll"):
                    getattr(batch, action)()
            batches.append([noted, failing])
            if failing:
                raise ValueError("as planned")
"""
ACTIONS = ("ack", "retry", "leave", "raise", "ackAll", "retryAll")


def again(noted: list[list[Any]], failing: bool) -> dict[str, bool]:
    """Whether each message of a batch is to come again, by the rules in words: own word, batch's word, outcome."""
    said: dict[str, bool] = {}
    all_said: bool | None = None
    for name, _, action in noted:
        if all_said is None and action in ("ack", "retry"):
            said[name] = action == "retry"
        elif all_said is None and action in ("ackAll", "retryAll"):
            all_said = action == "retryAll"
    rest = failing if all_said is None else all_said
    return {name: said.get(name, rest) for name, _, _ in noted}


@settings(max_examples=12, deadline=None)
@given(
    plans=st.lists(st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=3), min_size=1, max_size=6),
    size=st.integers(1, 4),
    retries=st.integers(0, 2),
)
def test_every_message_is_delivered_until_it_is_done_or_dead(plans: list[list[str]], size: int, retries: int) -> None:
    async def run(folder: Path) -> list[Any]:
        consumer = Consumer("jobs", size, 0, retries, 0, "dead")
        async with consuming(folder, PLANNED, consumer) as client:
            messages = [{"name": str(number), "plan": plan} for number, plan in enumerate(plans)]
            assert (await client.post("/", json=messages)).text == "sent"
            await emptied(folder)
            batches: list[Any] = (await client.get("/")).json()
            return batches

    with TemporaryDirectory() as name:
        batches = asyncio.run(run(Path(name)))
        dead = left(Path(name), "dead")
    attempts, finished = Counter[str](), defaultdict[str, bool](bool)
    died = 0
    for noted, failing in batches:
        assert len(noted) <= size
        for name, comes_again in again(noted, failing).items():
            assert not finished[name], "a message that was done or dead was delivered"
            attempts[name] += 1
            finished[name] = not comes_again or attempts[name] > retries
            died += comes_again and attempts[name] > retries
        assert all(attempt == attempts[name] for name, attempt, _ in noted)
    assert all(finished[str(number)] for number in range(len(plans)))
    assert len(dead) == died
    assert {each.attempts for each in dead} <= {0}


def kept(name: str, attempts: int) -> Kept:
    return Kept(name, "json", b"1", 0, attempts)


def test_delays_and_ends() -> None:
    consumer = Consumer("jobs", retries=1, delay=7)
    answer = {"messages": {"a": {"retry": True, "delay": 3}}, "all": {"retry": True}}
    found = settle([kept("a", 0), kept("b", 0), kept("c", 1)], answer, consumer)
    assert (found.done, found.again, found.dead) == ([], {"a": 3, "b": 7}, ["c"])
    answer = {"messages": {"b": {"retry": False}}, "all": None, "fault": {}}
    found = settle([kept("a", 0), kept("b", 0)], answer, consumer)
    assert (found.done, found.again, found.dead) == (["b"], {"a": 7}, [])


@pytest.mark.parametrize(
    ("count", "first", "expected"),
    [(0, None, None), (0, 9000, 8.0), (1, 900, 4.9), (9, -9000, 0), (10, 1000, 0)],
)
def test_a_batch_waits_until_it_is_full_or_old(count: int, first: int | None, expected: float | None) -> None:
    assert patience(count, first, Consumer("jobs"), 1000) == expected


async def test_a_message_waits_for_its_delay(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queues.sqlite", "jobs", Bells(asyncio.Event), 60)
    sent = {"kind": "json", "body": b"1", "delay": None}
    await queue.call("send", [sent])
    await queue.call("sendBatch", [[sent, {**sent, "delay": 5}], 30])
    with pytest.raises(BindingError, match="not True"):
        await queue.call("send", [{**sent, "delay": True}])
    await queue.aclose()
    file = QueueFile(tmp_path / "queues.sqlite")
    now = left(tmp_path, "jobs")[0].sent
    assert [file.due("jobs", now + 1000 * seconds + 999)[0] for seconds in (0, 5, 30, 60)] == [0, 1, 2, 3]
    file.close()


async def test_the_older_global_handler_is_called(tmp_path: Path) -> None:
    source = """
        from workers import Response

        seen = []

        async def on_fetch(request, env, ctx):
            if request.url.endswith("/send"):
                await env.Q.send("hello")
            return Response.json(seen)

        async def on_queue(batch, env, ctx):
            seen.extend([batch.queue, message.body] for message in batch.messages)
    """
    older = (*FLAGS, "disable_python_no_global_handlers")
    async with consuming(tmp_path, source, Consumer("jobs", timeout=0), flags=older) as client:
        await client.get("/send")
        await emptied(tmp_path)
        assert (await client.get("/")).json() == [["jobs", "hello"]]


async def test_a_file_that_fails_for_a_while_stops_no_consumer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    due, failures = QueueFile.due, iter([True, True])
    monkeypatch.setattr("worker.queues._PAUSE", 0.01)

    def failing(file: QueueFile, queue: str, now: int) -> tuple[int, int | None]:
        if next(failures, False):
            raise sqlite3.OperationalError("disk I/O error")
        return due(file, queue, now)

    monkeypatch.setattr(QueueFile, "due", failing)
    async with consuming(tmp_path, SOURCE, Consumer("jobs", timeout=0)) as client:
        assert (await client.get("/kinds")).text == "sent"
        await emptied(tmp_path)
