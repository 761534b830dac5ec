"""What tests ask of the model, and how they look at the engine that answers."""

from __future__ import annotations

import asyncio
from typing import Any

from runtime.engine import EngineStats
from worker import AI, AIStream

MODEL = "@hf/nexusflow/starling-lm-7b-beta"
GREEDY: dict[str, Any] = {"prompt": "Count to five.", "max_tokens": 8, "temperature": 0}
SAMPLED: dict[str, Any] = {**GREEDY, "temperature": 1.5, "seed": 7}
ENDLESS: dict[str, Any] = {"prompt": "Go on.", "max_tokens": 3000, "temperature": 5, "seed": 1}
"""At this temperature the model all but never ends by itself; computing it all takes many seconds."""
FAR_BELOW = 1000
"""Tokens, of those 3000, by which a request that was left must have stopped."""


async def answer(ai: AI, inputs: dict[str, Any]) -> dict[str, Any]:
    """The whole answer, but for how much of the prompt was kept from an earlier one."""
    result = await ai.run(MODEL, inputs)
    assert isinstance(result, dict)
    result["usage"].pop("prompt_tokens_details", None)
    return result


async def stream(ai: AI, inputs: dict[str, Any]) -> AIStream:
    result = await ai.run(MODEL, {**inputs, "stream": True})
    assert isinstance(result, AIStream)
    return result


def stats(ai: AI) -> EngineStats:
    (loaded,) = ai.loaded()
    return loaded.stats()


async def idle(ai: AI) -> EngineStats:
    """The engine's counts once it computes nothing; the test's own timeout is the limit."""
    while (now := stats(ai)).running or now.waiting:
        await asyncio.sleep(0.01)
    return now


async def computing(ai: AI, tokens: int = 0) -> None:
    """Return once the engine is at work, and has generated ``tokens`` in all."""
    while not (now := stats(ai)).running or now.generated_tokens < tokens:
        await asyncio.sleep(0.001)
