"""Compares what a session computes with what transformers computed from the same files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.config import EngineConfig, SamplingParams
from runtime.engine import Engine, Executor
from runtime.scheduler import Span, StepPlan
from tests.runtime.reference.tiny_checkpoints import GREEDY, PROMPTS, WINDOW

Floats = NDArray[np.float32]
TOLERANCE = 1e-4
LENGTH = max(PROMPTS) + GREEDY


class Reference:
    """What transformers computed with one checkpoint: greedy rows, and the logits along the longest."""

    def __init__(self, path: Path, name: str) -> None:
        with np.load(path) as saved:
            self.logits: Floats = saved[f"{name}.logits"]
            self.rows: list[list[int]] = [saved[f"{name}.row{index}"].tolist() for index in range(len(PROMPTS))]
            self.sha256 = str(saved.get(f"{name}.sha256", ""))


def read(session: Executor, tokens: list[int], start: int, end: int, *, row: int = 0) -> Floats:
    """The logits after token ``end`` - 1, reading the tokens from ``start`` as one chunk."""
    chunk = Span(row, row, start, tuple(tokens[start:end]), samples=True)
    logits: Floats = session.run(StepPlan((), (), chunk))[0]
    return logits


def check_at_once(session: Executor, reference: Reference) -> None:
    tokens = reference.rows[-1]
    for end in (1, 2, 7, WINDOW, WINDOW + 1, WINDOW + 2, 40, LENGTH):
        np.testing.assert_allclose(read(session, tokens, 0, end), reference.logits[end - 1], rtol=0, atol=TOLERANCE)


def check_in_chunks(session: Executor, reference: Reference, size: int) -> None:
    tokens = reference.rows[-1]
    for start in range(0, LENGTH, size):
        end = min(start + size, LENGTH)
        found = read(session, tokens, start, end)
        np.testing.assert_allclose(found, reference.logits[end - 1], rtol=0, atol=TOLERANCE)


def check_ragged_batch(session: Executor, reference: Reference) -> None:
    """Every greedy token of three rows that decode together, and the longest one's logits."""
    rows = [row[:length] for row, length in zip(reference.rows, PROMPTS, strict=True)]
    last = [read(session, row, 0, len(row), row=index) for index, row in enumerate(rows)]
    for step in range(GREEDY):
        np.testing.assert_allclose(last[-1], reference.logits[max(PROMPTS) + step - 1], rtol=0, atol=TOLERANCE)
        for row, logits in zip(rows, last, strict=True):
            row.append(int(logits.argmax()))
        if step < GREEDY - 1:
            spans = (Span(i, i, len(row) - 1, (row[-1],), samples=True) for i, row in enumerate(rows))
            last = list(session.run(StepPlan((), tuple(spans), None)))
    assert rows == reference.rows


def check_engine(session: Executor, reference: Reference) -> None:
    """Every greedy token of ragged rows that come, wait and yield; the session has five slots, and is closed.

    There are more requests than rows, and the cache is too small for all of them.
    """
    config = EngineConfig(
        rows=3,
        kept_prompts=2,
        chunk_tokens=5,
        prefill_tokens=9,
        kv_bytes=session.capacity * session.kv_bytes_per_token,
        debug=True,
    )
    engine = Engine(session, config)

    async def ask(prompt: list[int]) -> list[int]:
        generation = engine.submit(prompt, max_tokens=GREEDY, sampling=SamplingParams(temperature=0))
        return prompt + [token.id async for token in generation]

    async def everybody() -> list[list[int]]:
        return await asyncio.gather(*(ask(row[:-GREEDY]) for row in reference.rows * 3))

    try:
        assert asyncio.run(everybody()) == reference.rows * 3
        assert engine.stats().preemptions > 0
    finally:
        engine.close()
