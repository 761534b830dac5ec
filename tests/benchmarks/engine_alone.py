"""What only roost's engine does: cold start, kept prompts, speculation. Part of ``make speed``."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

from runtime.artifacts import ArtifactStore
from runtime.config import EngineConfig
from runtime.pool import Pool
from worker import AI, AIStream, Finished

MODEL = "@hf/nexusflow/starling-lm-7b-beta"
_SYSTEM = "You are the librarian of a small town by the sea and answer in one friendly sentence. " * 28
_REPETITIVE = "Write this list again: apples, pears, plums, apples, pears, plums, apples, pears, plums."
_FREE = "Tell me a story of a fox who went to sea."


def measure(rounds: int) -> dict[str, list[float]]:
    """Print a line for each figure; the rounds of each."""
    print()
    found = {
        "cold process to the first token, s": [_cold() for _ in range(rounds)],
        **_each_round(rounds, _kept_prompts),
        **_each_round(rounds, _speculation),
    }
    for what, taken in found.items():
        print(f"{what:58}{statistics.median(taken):9.3f} ({min(taken):.3f} - {max(taken):.3f})", flush=True)
    return found


def _each_round(rounds: int, take: Callable[[], Coroutine[Any, Any, dict[str, float]]]) -> dict[str, list[float]]:
    taken = [asyncio.run(take()) for _ in range(rounds)]
    return {what: [row[what] for row in taken] for what in taken[0]}


def _cold() -> float:
    """From starting ``roost run`` to its first line of text."""
    command = [sys.executable, "-m", "wrangler_compat", "run", MODEL, "Hello", "-o", "max_tokens=1", "-o", "seed=1"]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


async def _kept_prompts() -> dict[str, float]:
    """The first token of a chat with a system prompt of some 500 tokens, read anew and kept."""
    async with aclosing(AI()) as ai:
        await _answer(ai, {"prompt": "Hello", "max_tokens": 1})
        anew, _, _ = await _answer(ai, _chat("Good morning!"))
        kept, cached, read = await _answer(ai, _chat("What do you read?"))
    return {
        f"first token, system prompt of {read} tokens read anew, s": anew,
        f"first token, {cached} of its tokens kept, s": kept,
    }


def _chat(text: str) -> dict[str, Any]:
    messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": text}]
    return {"messages": messages, "max_tokens": 1}


async def _speculation() -> dict[str, float]:
    """Tokens per second of one greedy stream, with the law on and off."""
    found = {}
    for what, prompt in (("repetitive text", _REPETITIVE), ("free text", _FREE)):
        for law in (True, False):
            async with aclosing(AI(pool=Pool(ArtifactStore(), config=EngineConfig(deterministic=law)))) as ai:
                await _answer(ai, {"prompt": "Hello", "max_tokens": 1})
                started = time.perf_counter()
                await _answer(ai, {"prompt": prompt, "max_tokens": 128, "temperature": 0})
                written = ai.loaded()[0].stats().generated_tokens - 1
                speed = written / (time.perf_counter() - started)
            found[f"{what}, one stream, law {'on' if law else 'off'}, tokens/s"] = speed
    return found


async def _answer(ai: AI, inputs: dict[str, Any]) -> tuple[float, int, int]:
    """Seconds to the first event, tokens that were kept, tokens of the prompt."""
    started = time.perf_counter()
    stream = await ai.run(MODEL, {**inputs, "stream": True})
    first = time.perf_counter() - started
    assert isinstance(stream, AIStream)
    ends = [event async for event in stream.events() if isinstance(event, Finished)]
    return first, ends[0].usage.cached_tokens, ends[0].usage.prompt_tokens


if __name__ == "__main__":
    print(json.dumps(measure(3)))
