"""What do the doors cost? The same requests in process and through REST streams. ``python -m tests.benchmarks.doors``.

In turns, by number of clients: tokens per second over all of them, CPU seconds per thousand tokens of the process that
serves, and the median time to the first piece of text.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from worker import AI, AIStream, Finished

MODEL = "@hf/nexusflow/starling-lm-7b-beta"
CLIENTS = (1, 8, 32, 64)
_TICK = os.sysconf("SC_CLK_TCK")
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


async def through_rest(client: httpx.AsyncClient, inputs: dict[str, Any]) -> tuple[float, int]:
    """One request through the REST door."""
    started, first, written = time.perf_counter(), 0.0, 0
    async with client.stream("POST", f"/client/v4/accounts/a/ai/run/{MODEL}", json=inputs) as response:
        async for data in frames(response):
            first = first or time.perf_counter() - started
            written = data["usage"]["completion_tokens"] if "usage" in data else written
    return first, written


async def frames(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The JSON of each frame."""
    async for line in response.aiter_lines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


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


async def main(rounds: int) -> None:
    """Print a table."""
    print(f"{'clients':>8}{'way':>12}{'tokens/s':>10}{'CPU s/1000':>12}{'first text':>12}")
    ai = AI()
    with serving() as (process, url):
        async with httpx.AsyncClient(base_url=url, timeout=None, limits=httpx.Limits(max_connections=None)) as client:
            ways: dict[str, tuple[Ask, int]] = {
                "in process": (lambda inputs: in_process(ai, inputs), os.getpid()),
                "REST": (lambda inputs: through_rest(client, inputs), process.pid),
            }
            for ask, pid in ways.values():
                await measure(ask, requests(2, 0), pid)  # loads the model
            for clients in CLIENTS:
                await compare(ways, clients, rounds)
    await ai.aclose()


async def compare(ways: dict[str, tuple[Ask, int]], clients: int, rounds: int) -> None:
    """Both ways in turns."""
    taken: dict[str, list[Taken]] = {way: [] for way in ways}
    for round_ in range(1, rounds + 1):
        for way, (ask, pid) in ways.items():
            taken[way].append(await measure(ask, requests(clients, round_), pid))
    for way, rows in taken.items():
        middle = [statistics.median(values) for values in zip(*(vars(row).values() for row in rows), strict=True)]
        print(f"{clients:8}{way:>12}{middle[0]:10.1f}{middle[1]:12.2f}{middle[2] * 1000:10.0f} ms", flush=True)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    asyncio.run(main(options.parse_args().rounds))
