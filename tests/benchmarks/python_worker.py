"""What does a Python Worker cost? ``python -m tests.benchmarks.python_worker``.

A hello-world Worker through the host, beside the same Starlette application on hypercorn alone, in turns: requests per
second, and the median and the 99th percentile of their time, by number of clients on connections that they keep. Then
an isolate's cold start (from nothing to its first answer) and its resident memory.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from tests.benchmarks.machine import processor
from tests.worker.python_workers import python_worker, written
from worker.server import bind

CLIENTS = (1, 8, 32)
_KEPT = 900  # requests on a connection, of the 1000 that hypercorn allows
WORKER = """
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response("Hello World!")
"""
STARLETTE = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def hello(request):
    return PlainTextResponse("Hello World!")

app = Starlette(routes=[Route("/", hello)])
"""
CONFIG = 'name = "hello"\nmain = "hello.py"\ncompatibility_flags = ["python_workers"]\n'


async def client(port: int, until: float) -> list[float]:
    """Ask again and again on a connection that is kept for a while; the seconds that each answer took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    taken: list[float] = []
    while (started := time.perf_counter()) < until:
        if taken and len(taken) % _KEPT == 0:
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET / HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        assert await reader.readexactly(int(length.partition(b":")[2])) == b"Hello World!"
        taken.append(time.perf_counter() - started)
    writer.close()
    return taken


async def load(port: int, clients: int, seconds: float) -> tuple[float, float, float]:
    """Requests per second, and the median and 99th percentile in milliseconds."""
    until = time.perf_counter() + seconds
    taken = sorted(
        each for found in await asyncio.gather(*(client(port, until) for _ in range(clients))) for each in found
    )
    return len(taken) / seconds, statistics.median(taken) * 1000, taken[int(len(taken) * 0.99)] * 1000


@contextmanager
def started(command: list[str], folder: Path, ready: str) -> Iterator[None]:
    """A server's process, from the line that says that it is ready."""
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if ready in line)
        threading.Thread(target=process.stdout.read, daemon=True).start()  # lest its log fill the pipe
        yield
        process.terminate()


def free_port() -> int:
    """A port that nobody listens on."""
    with bind("127.0.0.1", 0) as listener:
        return int(listener.getsockname()[1])


async def isolate(folder: Path, rounds: int) -> tuple[float, float]:
    """Median seconds from nothing to a Worker's first answer, and its resident megabytes after it."""
    seconds, megabytes = [], []
    for _ in range(rounds):
        worker = python_worker(folder, main="hello")
        async with worker.running():
            begun = time.perf_counter()
            head = {"op": "fetch", "method": "GET", "url": "http://x/", "headers": [], "cf": {}}
            assert (await worker.call(head))["status"] == 200
            seconds.append(time.perf_counter() - begun)
            megabytes.append(psutil.Process((await worker.isolate()).pid).memory_info().rss / 2**20)
    return statistics.median(seconds), statistics.median(megabytes)


async def main(rounds: int, seconds: float) -> None:
    """Print the tables."""
    print(processor())
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = written(Path(name), hello=WORKER, alone=STARLETTE)
        (folder / "wrangler.toml").write_text(CONFIG)
        ports = {"Worker in roost": free_port(), "Starlette alone": free_port()}
        roost = [sys.executable, "-m", "wrangler_compat", "dev", "--offline", "--doors-port", "0", "--no-stand-in"]
        stack.enter_context(started([*roost, "--port", str(ports["Worker in roost"])], folder, "Worker ready on"))
        alone = [sys.executable, "-m", "hypercorn", "--bind", f"127.0.0.1:{ports['Starlette alone']}", "alone:app"]
        stack.enter_context(started(alone, folder, "Running on"))
        print(f"{'clients':>8}{'':>18}{'requests/s':>12}{'p50 ms':>10}{'p99 ms':>10}")
        for clients in CLIENTS:
            rows: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ports}
            for _ in range(rounds):
                for way, port in ports.items():
                    rows[way].append(await load(port, clients, seconds))
            for way, found in rows.items():
                rate, middle, slow = (statistics.median(values) for values in zip(*found, strict=True))
                print(f"{clients:8}{way:>18}{rate:12.0f}{middle:10.2f}{slow:10.2f}", flush=True)
        cold, memory = await isolate(folder, rounds)
        print(f"an isolate: {cold * 1000:.0f} ms from nothing to its first answer, {memory:.0f} MB resident")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=3.0)
    given = options.parse_args()
    asyncio.run(main(given.rounds, given.seconds))
