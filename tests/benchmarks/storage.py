"""What do D1, R2, Vectorize, Queues and the others cost? ``python -m tests.benchmarks.storage``.

Operations per second of one Worker that awaits one after another, beside the bare store in this process: ``sqlite3``
with the same pragmas and a transaction for each write, and files. Then an object of 300 MB put and got through the
Worker: megabytes per second, and how much more resident memory roost and the isolate had at their largest.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import sqlite3
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil

from tests.benchmarks.machine import processor
from tests.worker.python_workers import python_worker, served, written
from worker.bindings.analytics import AnalyticsDataset
from worker.bindings.analytics_file import AnalyticsFile, Point
from worker.bindings.binding import Binding
from worker.bindings.d1 import D1Database
from worker.bindings.kv import KvNamespace
from worker.bindings.queue_file import QueueFile, Sent
from worker.bindings.queues import Queue
from worker.bindings.r2 import R2Bucket
from worker.bindings.rate_limit import RateLimit
from worker.bindings.vectorize import Vectorize
from worker.bindings.vectorize_file import Vector, VectorIndexFile, ranked

BATCH, LARGE = 100, 300 << 20
WORKER = """
import time
from collections import defaultdict
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if request.method == "PUT":
            return Response(str((await self.env.BUCKET.put("large", request.body)).size))
        if "large" in request.url:
            return Response((await self.env.BUCKET.get("large")).body)
        name, count = request.url.rsplit("/", 2)[1:]
        db, bucket, kv, text = self.env.DB, self.env.BUCKET, self.env.KV, "x" * 1000
        await db.exec("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, v TEXT)")
        index = self.env.INDEX
        insert = db.prepare("INSERT INTO t (v) VALUES (?)")
        calls = {
            "d1-write": lambda i: insert.bind(text).run(),
            "d1-read": lambda i: db.prepare("SELECT v FROM t WHERE id=?").bind(i % 100 + 1).first("v"),
            "d1-batch": lambda i: db.batch([insert.bind(text) for _ in range(100)]),
            "r2-write": lambda i: bucket.put(f"key{i}", text),
            "r2-read": lambda i: bucket.get(f"key{i % 100}"),
            "vector-write": lambda i: index.upsert([{"id": str(i), "values": [1.0 + i % 7] * 768}]),
            "vector-read": lambda i: index.query([1.0 + i % 7] * 768),
            "rate-limit": lambda i: self.env.RATE.limit({"key": "k"}),
            "queue-write": lambda i: self.env.QUEUE.send(text),
            "point-write": lambda i: point(i),
            "kv-write": lambda i: kv.put(f"key{i}", text),
            "kv-read": lambda i: kv.get(f"key{i % 100}"),
        }

        async def point(i):
            self.env.POINTS.writeDataPoint({"blobs": ["a"], "doubles": [float(i)], "indexes": ["k"]})
            if i == int(count) - 1:
                await kv.get("flush")

        began = time.perf_counter()
        for i in range(int(count)):
            found = await calls[name](i)
            if name == "r2-read":
                await found.text()
        return Response(str(time.perf_counter() - began))
"""


def bare(folder: Path, count: int) -> dict[str, Callable[[int], object]]:
    """The same operations without a Worker."""
    db = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=OFF")
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    db.execute("CREATE TABLE k (key TEXT PRIMARY KEY, v BLOB)")
    text, data = "x" * 1000, b"x" * 1000
    insert = "INSERT INTO t (v) VALUES (?)"

    vectors = np.ones((count, 768), np.float32)
    rate = RateLimit(100, 60)
    file = VectorIndexFile(folder, "bare")
    file.create(768, "cosine")
    queue, points = QueueFile(folder / "bare-queues.sqlite"), AnalyticsFile(folder / "bare-points.sqlite")

    def batch(_: int) -> None:
        db.execute("BEGIN")
        for _ in range(BATCH):
            db.execute(insert, (text,))
        db.execute("COMMIT")

    def put(i: int) -> None:
        hashlib.md5(data, usedforsecurity=False)
        made = folder / f"made{i}"
        made.write_bytes(data)
        os.replace(made, folder / f"key{i}")

    return {
        "d1-write": lambda _: db.execute(insert, (text,)),
        "d1-read": lambda i: db.execute("SELECT v FROM t WHERE id=?", (i % 100 + 1,)).fetchone(),
        "d1-batch": batch,
        "r2-write": put,
        "r2-read": lambda i: (folder / f"key{i % 100}").read_bytes(),
        "vector-write": lambda i: file.write([Vector(str(i), vectors[0], None, None)], over=True),
        "vector-read": lambda i: ranked(vectors, vectors[i % count], "cosine"),
        "rate-limit": lambda _: rate.take("k", 0),
        "queue-write": lambda _: queue.send("bare", [Sent("json", text.encode(), 0)], 0),
        "point-write": lambda i: points.write("bare", Point("2026-01-31 12:00:00", "k", ["a"], [float(i)])),
        "kv-write": lambda i: db.execute("INSERT OR REPLACE INTO k VALUES (?, ?)", (f"key{i}", data)),
        "kv-read": lambda i: db.execute("SELECT v FROM k WHERE key=?", (f"key{i % 100}",)).fetchone(),
    }


def timed(call: Callable[[int], object], count: int) -> float:
    """Seconds for ``count`` calls."""
    began = time.perf_counter()
    for i in range(count):
        call(i)
    return time.perf_counter() - began


@contextmanager
def largest(*pids: int) -> Iterator[list[float]]:
    """What the resident memory of each process grew by at most, MB, once the block has ended."""
    processes = [psutil.Process(pid) for pid in pids]
    before = [each.memory_info().rss for each in processes]
    most, ended = list(before), threading.Event()

    def sample() -> None:
        while not ended.wait(0.02):
            most[:] = [max(one, each.memory_info().rss) for one, each in zip(most, processes, strict=True)]

    sampling = threading.Thread(target=sample)
    sampling.start()
    grown: list[float] = []
    yield grown
    ended.set()
    sampling.join()
    grown += [(one - was) / 2**20 for one, was in zip(most, before, strict=True)]


async def megabytes(count: int) -> AsyncGenerator[bytes]:
    """So many megabytes, one by one."""
    for _ in range(count):
        yield bytes(1 << 20)


async def large(client: httpx.AsyncClient, isolate: int) -> None:
    """Print what an object of 300 MB takes."""
    with largest(os.getpid(), isolate) as grown:
        began = time.perf_counter()
        await client.put("/", content=megabytes(LARGE >> 20), headers={"content-length": str(LARGE)})
        put = time.perf_counter() - began
        got = 0
        began = time.perf_counter()
        async with client.stream("GET", "/large") as answer:
            async for piece in answer.aiter_bytes():
                got += len(piece)
        assert got == LARGE
        took = time.perf_counter() - began
    size = LARGE >> 20
    print(f"{size} MB: put {size / put:.0f} MB/s, got {size / took:.0f} MB/s, ", end="")
    print(f"roost (with the client) grew by {grown[0]:.0f} MB, the isolate by {grown[1]:.0f} MB")


async def main(rounds: int, count: int) -> None:
    """Print the table."""
    print(processor(), "load", os.getloadavg())
    with tempfile.TemporaryDirectory() as name:
        folder = written(Path(name), worker=WORKER)
        file = VectorIndexFile(folder, "index")
        file.create(768, "cosine")
        bindings: dict[str, Binding] = {"INDEX": Vectorize(file), "RATE": RateLimit(100, 60)}
        bindings |= {"QUEUE": Queue(folder / "queues.sqlite", "queue", defaultdict(asyncio.Event))}
        bindings |= {"POINTS": AnalyticsDataset(AnalyticsFile(folder / "points.sqlite"), "points")}
        bindings |= {"DB": D1Database(folder / "d1.sqlite"), "BUCKET": R2Bucket(folder, "bucket")}
        worker = python_worker(folder, bindings={**bindings, "KV": KvNamespace(folder / "kv.sqlite", "kv")})
        alone = bare(folder, count)
        async with served(worker) as client:
            print(f"{'':>14}{'Worker, 1/s':>14}{'bare, 1/s':>12}")
            for way, call in alone.items():
                times = count // 20 if way == "d1-batch" else count
                through, beside = [], []
                for _ in range(rounds):
                    through.append(times / float((await client.get(f"/{way}/{times}")).text))
                    beside.append(times / timed(call, times))
                print(f"{way:>14}{statistics.median(through):14.0f}{statistics.median(beside):12.0f}", flush=True)
            await large(client, (await worker.isolate()).pid)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--count", type=int, default=1000)
    given = options.parse_args()
    asyncio.run(main(given.rounds, given.count))
