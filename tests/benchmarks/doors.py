"""What do the doors cost? The same requests in process and through REST streams. ``python -m tests.benchmarks.doors``.

In turns, by number of clients: tokens per second over all of them, CPU seconds per thousand tokens of the process that
serves, and the median time to the first piece of text. The clients are bare sockets, so that no HTTP library's time is
counted as a door's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from worker import AI, AIStream, Finished

MODEL = "@hf/nexusflow/starling-lm-7b-beta"
CLIENTS = (1, 8, 32, 64)
_TICK = os.sysconf("SC_CLK_TCK")
Figures: TypeAlias = dict[str, float]
Ask = Callable[[dict[str, Any]], Awaitable[tuple[float, int]]]
"""Runs one request; seconds to the first text, and tokens written."""


@dataclass(frozen=True)
class Taken:
    """One way's figures in one round."""

    tokens_per_second: float
    cpu_per_thousand: float
    first: float


def requests(count: int, round_: int) -> list[dict[str, Any]]:
    """Prompts of mixed lengths, none like another, and answers of mixed lengths."""
    return [
        {
            "prompt": f"{round_}-{place}: " + "tell me of the sea and the wind " * (place % 7),
            "max_tokens": 24 + 8 * (place % 6),
            "temperature": 1.2,
            "seed": place + 1,
            "stream": True,
        }
        for place in range(count)
    ]


async def in_process(ai: AI, inputs: dict[str, Any]) -> tuple[float, int]:
    """One request without a door."""
    started = time.perf_counter()
    stream = await ai.run(MODEL, inputs)
    assert isinstance(stream, AIStream)
    first, written = time.perf_counter() - started, 0
    async for event in stream.events():
        written = event.usage.completion_tokens if isinstance(event, Finished) else written
    return first, written


async def through_rest(url: str, inputs: dict[str, Any]) -> tuple[float, int]:
    """One request through the REST door, on a connection of its own."""
    started, first, written = time.perf_counter(), 0.0, 0
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(inputs).encode()
    head = f"POST /client/v4/accounts/a/ai/run/{MODEL} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    async for data in frames(reader):
        first = first or time.perf_counter() - started
        written = data["usage"]["completion_tokens"] if "usage" in data else written
    writer.close()
    return first, written


async def frames(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    """The JSON of each frame."""
    async for line in reader:
        if line.startswith(b"data: {"):
            yield json.loads(line.removeprefix(b"data: "))


async def measure(ask: Ask, asked: list[dict[str, Any]], pid: int) -> Taken:
    """All of ``asked`` at once."""
    cpu, started = cpu_seconds(pid), time.perf_counter()
    answers = await asyncio.gather(*map(ask, asked))
    wall, written = time.perf_counter() - started, sum(count for _, count in answers)
    spent = (cpu_seconds(pid) - cpu) / written * 1000
    return Taken(written / wall, spent, statistics.median(first for first, _ in answers))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


@contextmanager
def serving() -> Any:
    """A real ``roost serve``: its process and address."""
    command = [sys.executable, "-m", "wrangler_compat", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        ready = next(line for line in process.stdout if line.startswith("Ready on "))
        yield process, ready.removeprefix("Ready on ").strip()
        process.terminate()


async def main(rounds: int) -> dict[str, list[Figures]]:
    """Print a table; the figures of every round, by number of clients and way."""
    found: dict[str, list[Figures]] = {}
    print(f"{'clients':>8}{'way':>12}{'tokens/s':>10}{'CPU s/1000':>12}{'first text':>12}")
    ai = AI()
    with serving() as (process, url):
        ways: dict[str, tuple[Ask, int]] = {
            "in process": (lambda inputs: in_process(ai, inputs), os.getpid()),
            "REST": (lambda inputs: through_rest(url, inputs), process.pid),
        }
        for ask, pid in ways.values():
            await measure(ask, requests(2, 0), pid)  # loads the model
        for clients in CLIENTS:
            taken = await compare(ways, clients, rounds)
            found |= {f"{clients} clients, {way}": [asdict(row) for row in rows] for way, rows in taken.items()}
    await ai.aclose()
    return found


async def compare(ways: dict[str, tuple[Ask, int]], clients: int, rounds: int) -> dict[str, list[Taken]]:
    """Both ways in turns."""
    taken: dict[str, list[Taken]] = {way: [] for way in ways}
    for round_ in range(1, rounds + 1):
        for way, (ask, pid) in ways.items():
            taken[way].append(await measure(ask, requests(clients, round_), pid))
    for way, rows in taken.items():
        middle = [statistics.median(values) for values in zip(*(vars(row).values() for row in rows), strict=True)]
        print(f"{clients:8}{way:>12}{middle[0]:10.1f}{middle[1]:12.2f}{middle[2] * 1000:10.1f} ms", flush=True)
    return taken


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    asyncio.run(main(options.parse_args().rounds))
