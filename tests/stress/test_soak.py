"""A long day in short: mixed requests, with memory, descriptors and threads flat and the same words at the end."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter

import httpx
import pytest

from tests.stress.asking import DOORS, REST, a_prompt, ask, greedy, right
from tests.stress.conftest import LONG, Figures
from tests.stress.leavers import leave
from tests.stress.serving import Roost

pytestmark = [pytest.mark.stress, pytest.mark.timeout(900)]

SECONDS = 300 if LONG else 3
CLIENTS = 24
GROWTH = 30.0  # megabytes over the whole soak
POOL = min(32, (os.cpu_count() or 1) + 4)
"""Threads that asyncio's pool may still start, where the warming was short."""
FORM = {"type": "json_schema", "json_schema": {"type": "object", "properties": {"a": {"type": "boolean"}}}}
BAD = ({"max_tokens": "many"}, {"temperature": 9}, {"prompt": ""}, {"max_tokens": 100_000}, {"seed": -1})
PROMPTS = [a_prompt(random.Random(n)) for n in range(20)]


async def mixed(url: str, seconds: float, chance: random.Random) -> Counter[str]:
    """How many requests of each kind were made."""
    until, made = time.monotonic() + seconds, Counter[str]()

    async def one(client: httpx.AsyncClient) -> None:
        while time.monotonic() < until:
            kind = chance.choice(["greedy", "greedy", "sampled", "json", "bad", "left"])
            await _ask(client, url, kind, chance)
            made[kind] += 1

    async with httpx.AsyncClient(base_url=url, timeout=100) as client:
        await asyncio.gather(*(one(client) for _ in range(CLIENTS)))
    return made


async def _ask(client: httpx.AsyncClient, url: str, kind: str, chance: random.Random) -> None:
    door, prompt, count = chance.choice(DOORS), a_prompt(chance, 200), chance.randint(1, 120)
    inputs = greedy(prompt, count, stream=chance.random() < 0.5)
    if kind == "left":
        return await leave(url, 1, chance)
    if kind == "sampled":
        inputs |= {"temperature": 1.5, "seed": chance.randint(1, 99), "top_p": 0.9, "top_k": chance.randint(1, 50)}
    if kind == "json":
        door, inputs = REST, {**inputs, "stream": False, "response_format": FORM}
    if kind == "bad":
        inputs |= chance.choice(BAD)
    heard = await ask(client, door, inputs)
    assert heard.status < 500, (kind, heard)
    if kind == "bad":
        assert heard.status in (400, 413), (inputs, heard)
    if kind == "greedy":
        assert heard.text == right(prompt, count), (door, inputs)


async def words(url: str) -> list[str | None]:
    """The greedy answers to the same questions."""
    async with httpx.AsyncClient(base_url=url, timeout=100) as client:
        return [(await ask(client, REST, greedy(prompt, 60))).text for prompt in PROMPTS]


def test_a_soak_leaves_memory_descriptors_threads_and_words_as_they_were(arithmetic: Roost, figures: Figures) -> None:
    url, chance = arithmetic.url, random.Random(5)
    at_first = asyncio.run(words(url))
    asyncio.run(mixed(url, min(30, SECONDS / 3), chance))  # warm
    arithmetic.idle()
    before = arithmetic.levels()
    made = asyncio.run(mixed(url, SECONDS, chance))
    arithmetic.idle()
    after = arithmetic.settled(before)
    assert asyncio.run(words(url)) == at_first == [right(prompt, 60) for prompt in PROMPTS]
    assert after.descriptors <= before.descriptors
    assert after.threads <= before.threads + (0 if LONG else POOL)
    assert after.megabytes - before.megabytes < GROWTH
    assert min(made.values()) > 0
    figures["requests of the soak"] = f"{made.total():,} in {SECONDS} s: " + ", ".join(
        f"{count:,} {kind}" for kind, count in sorted(made.items())
    )
    figures["resident megabytes before and after it"] = f"{before.megabytes:.0f}, {after.megabytes:.0f}"
    figures["descriptors and threads before and after it"] = (
        f"{before.descriptors} and {before.threads}, {after.descriptors} and {after.threads}"
    )
