"""What embedding costs: sentences per second of the stand-in, beside plain ONNX Runtime on the same graph.

`make embedding-speed`. Both sides go from text to vectors of length 1 on the same threads, and take turns. "Plain" is
what one would write by hand: the tokenizer's own padding of the whole list to its longest, one run, the mean. The texts
are of many lengths, as passages are. "Requests at once" are one text each, from as many tasks. ``--cpu``: by seconds
of this process's own on all its threads, which other work hardly changes.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from runtime.artifacts import TEXT_EMBEDDINGS, ArtifactStore
from runtime.device import Device, usable_cores
from runtime.session import open_session
from runtime.stand_in import find_stand_in
from tests.benchmarks.machine import processor
from tests.models.embedding import SMALL, embedders
from worker import AI

ROUNDS, TEXTS = 5, 96
WORDS = (
    "old",
    "river",
    "boats",
    "carry",
    "quiet",
    "towns",
    "while",
    "birds",
    "follow",
    "slow",
    "water",
    "to",
    "the",
    "sea",
)
clock = time.process_time if "--cpu" in sys.argv else time.perf_counter
Case = Callable[[], Awaitable[object]]


class Plain:
    """The same graph by hand."""

    def __init__(self) -> None:
        made = find_stand_in(ArtifactStore(), task=TEXT_EMBEDDINGS)
        assert made is not None
        assert made.manifest.embedding is not None
        self._tokenizer = Tokenizer.from_file(str(made.folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.enable_padding()
        self._session = open_session(made.folder / made.manifest.embedding.graph, Device(), usable_cores())

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        encoded = self._tokenizer.encode_batch(texts)
        ids = np.array([one.ids for one in encoded], np.int64)
        mask = np.array([one.attention_mask for one in encoded], np.float32)
        lengths = mask.sum(1).astype(np.int32)
        (hidden,) = self._session.run(None, {"input_ids": ids, "lengths": lengths})
        mean = (hidden * mask[..., None]).sum(1) / lengths[:, None]
        vectors: NDArray[np.float32] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return vectors


def passages(shortest: int, longest: int) -> list[str]:
    """``TEXTS`` passages of so many words."""
    draw = np.random.default_rng(7)
    return [" ".join(draw.choice(WORDS, draw.integers(shortest, longest + 1))) for _ in range(TEXTS)]


async def rate(case: Case) -> float:
    """Texts per second."""
    started = clock()
    await case()
    return TEXTS / (clock() - started)


def cases(ai: AI, plain: Plain, texts: list[str]) -> dict[str, Case]:
    async def by_roost(size: int) -> None:
        for start in range(0, TEXTS, size):
            await ai.run(SMALL, {"text": texts[start : start + size]})

    async def at_once(together: int) -> None:
        for start in range(0, TEXTS, together):
            await asyncio.gather(*(ai.run(SMALL, {"text": text}) for text in texts[start : start + together]))

    async def by_hand(size: int) -> None:
        for start in range(0, TEXTS, size):
            plain.embed(texts[start : start + size])

    return {
        "1 text, plain": lambda: by_hand(1),
        "1 text, roost": lambda: by_roost(1),
        "32 texts, plain": lambda: by_hand(32),
        "32 texts, roost": lambda: by_roost(32),
        "32 requests at once, roost": lambda: at_once(32),
    }


async def main() -> None:
    plain = Plain()
    print(f"{processor()}, {usable_cores()} threads, sentences per second, medians of {ROUNDS} rounds")
    async with aclosing(AI(catalog=embedders())) as ai:
        for name, (shortest, longest) in {
            "sentences of 8 to 24 words": (8, 24),
            "passages of 10 to 200": (10, 200),
        }.items():
            texts = passages(shortest, longest)
            result = await ai.run(SMALL, {"text": texts})
            assert isinstance(result, dict)
            np.testing.assert_allclose(result["data"], plain.embed(texts), rtol=0, atol=1e-5)
            found: dict[str, list[float]] = {}
            for _ in range(ROUNDS):
                for case, run in cases(ai, plain, texts).items():
                    found.setdefault(case, []).append(await rate(run))
            print(f"\n{name}")
            for case, rates in found.items():
                print(f"{case:30} {statistics.median(rates):8.1f}   ({min(rates):.0f} to {max(rates):.0f})")


if __name__ == "__main__":
    asyncio.run(main())
