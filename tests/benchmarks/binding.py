"""What does the binding add? ``python -m tests.benchmarks.binding [--rounds 200]``, with the npm packages of the tests.

The time from ``env.AI.run`` in a Worker to its first chunk, beside the engine's own to the first event of the same
request, in turns, in one run: p50 and p99 in milliseconds. workerd freezes a Worker's clock between inputs and outputs,
so the Worker's time is taken outside, less that of a request which calls nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from tests.worker.asking import MODEL
from tests.wrangler_compat.node_tools import copied, environment_for, miniflare_api, wrangler_by_hand
from worker import AI, AIStream
from worker.server import bind, serve_until, url_of
from wrangler_compat.app import create_app

ASKED = {"prompt": "Count to five.", "max_tokens": 2, "temperature": 0, "stream": True}
Once = Callable[[], Awaitable[float]]


async def main(rounds: int) -> None:
    """Print a table."""
    ai, stop, listener = AI(), asyncio.Event(), bind("127.0.0.1", 0)
    url = url_of(listener)
    serving = asyncio.create_task(serve_until(create_app(ai), listener, stop))
    with TemporaryDirectory() as folder:
        projects = await asyncio.to_thread(copied, Path(folder))
        ways = {
            "wrangler 4.86": wrangler_by_hand(projects / "worker", environment_for(url), "wrangler"),
            "miniflare": miniflare_api(projects, url),
        }
        for name, way in ways.items():
            worker = await asyncio.to_thread(way.__enter__)
            try:
                await compare(name, ai, url, worker.url, rounds)
            finally:
                await asyncio.to_thread(way.__exit__, None, None, None)
    stop.set()
    await serving


async def compare(name: str, ai: AI, roost: str, worker: str, rounds: int) -> None:
    """All the ways to the first chunk, in turns."""
    async with httpx.AsyncClient(timeout=60) as client:
        wire = {"inputs": ASKED, "options": {}}
        named = {"cf-consn-model-id": MODEL}
        ways: dict[str, Once] = {
            "engine": lambda: engine(ai),
            "wire door": lambda: first_byte(client, f"{roost}/run?version=3", wire, named),
            "Worker": lambda: first_byte(client, f"{worker}/run", {"inputs": ASKED}, {}),
            "empty Worker": lambda: first_byte(client, f"{worker}/nothing", {}, {}),
        }
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for round_ in range(rounds + 10):
            for way, once in ways.items():
                seconds = await once()
                if round_ >= 10:  # the first ones load and warm up
                    taken[way].append(seconds * 1000)
    print(f"{name:>16}{'p50':>10}{'p99':>10}  (ms to the first chunk)")
    for way, times in taken.items():
        print(f"{way:>16}{statistics.median(times):10.2f}{statistics.quantiles(times, n=100)[98]:10.2f}")
    added = [
        through - empty - own
        for through, empty, own in zip(taken["Worker"], taken["empty Worker"], taken["engine"], strict=True)
    ]
    print(f"{'the door adds':>16}{statistics.median(added):10.2f}{statistics.quantiles(added, n=100)[98]:10.2f}")


async def engine(ai: AI) -> float:
    """Seconds to the first event, without a door."""
    started = time.perf_counter()
    stream = await ai.run(MODEL, ASKED)
    assert isinstance(stream, AIStream)
    first = time.perf_counter() - started
    async for _ in stream:
        pass
    return first


async def first_byte(client: httpx.AsyncClient, url: str, body: object, headers: dict[str, str]) -> float:
    """Seconds to the first byte of the body."""
    started, first = time.perf_counter(), 0.0
    async with client.stream("POST", url, json=body, headers=headers) as response:
        async for _ in response.aiter_bytes():
            first = first or time.perf_counter() - started
    return first


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=200)
    asyncio.run(main(options.parse_args().rounds))
