"""How fast is the engine, beside llama.cpp on the same weights? Run by with_peers.sh (``make speed``).

Both sides take turns, round by round, with the same number of threads; a row is the median of the rounds and their
spread. The rest measures roost alone: what the doors cost, and what a kept prompt saves.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from operator import methodcaller
from pathlib import Path
from typing import Protocol

import numpy as np

from runtime.artifacts import ArtifactStore
from runtime.device import Device, usable_cores
from runtime.scheduler import Span, StepPlan
from runtime.session import DecoderSession
from runtime.stand_in import GGUF_NAME, find_stand_in
from tests.benchmarks.llama_cpp_peer import STEPS, LlamaCpp

ROWS = (1, 2, 4, 8, 16)
CONTEXTS = (128, 960)
PROMPTS = (128, 512, 1024)
CAPACITY = 1100


class Peer(Protocol):
    """Something that decodes the stand-in's weights."""

    name: str

    def decode(self, rows: int, context: int) -> float:
        """Tokens per second over all rows, one token each at a time."""

    def prefill(self, tokens: int) -> float:
        """Prompt tokens per second, read in one go, the last one's logits computed."""


Measure = Callable[[Peer], float]


class Roost:
    """The decoder that ``roost pull --stand-in`` built, under the session that serves it."""

    name = "roost"

    def __init__(self, decoder: Path, threads: int) -> None:
        self._session = DecoderSession(decoder, slots=max(ROWS), capacity=CAPACITY, device=Device(), threads=threads)
        self._random = np.random.default_rng(1)
        for row in range(max(ROWS)):  # real keys and values: untouched pages would all be one page of zeros
            self._read(row, max(CONTEXTS))

    def decode(self, rows: int, context: int) -> float:
        """Tokens per second over all rows, one token each at a time."""
        started = time.perf_counter()
        for step in range(STEPS):
            spans = tuple(Span(row, row, context + step, (self._token(),), samples=True) for row in range(rows))
            self._session.run(StepPlan((), spans, None))
        return rows * STEPS / (time.perf_counter() - started)

    def prefill(self, tokens: int) -> float:
        """Prompt tokens per second, read in one go, the last one's logits computed."""
        started = time.perf_counter()
        self._read(0, tokens)
        return tokens / (time.perf_counter() - started)

    def _read(self, row: int, tokens: int) -> None:
        ids = tuple(self._token() for _ in range(tokens))
        self._session.run(StepPlan((), (), Span(0, row, 0, ids, samples=True)))

    def _token(self) -> int:
        return int(self._random.integers(100, 40_000))


def main() -> None:
    """Measure, print a table, write JSON."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--json", type=Path, default=Path("speed.json"))
    chosen = options.parse_args()
    store, threads = ArtifactStore(), usable_cores()
    artifact = find_stand_in(store)
    if artifact is None:
        raise SystemExit("the stand-in isn't here: type roost pull --stand-in")
    peers: list[Peer] = [
        Roost(artifact.decoder, threads),
        LlamaCpp(store.downloads / GGUF_NAME, threads, CAPACITY, max(ROWS)),
    ]
    print(f"{_processor()}, {threads} threads, {chosen.rounds} rounds, tokens per second: median (spread)\n")
    rows = [_row(name, peers, measure, chosen.rounds) for name, measure in _measures()]
    chosen.json.write_text(json.dumps({"processor": _processor(), "threads": threads, "rows": rows}, indent=2) + "\n")


def _measures() -> Iterator[tuple[str, Measure]]:
    for context in CONTEXTS:
        for rows in ROWS:
            yield f"decode, {rows} rows, context {context}", methodcaller("decode", rows, context)
    for tokens in PROMPTS:
        yield f"prefill of {tokens}", methodcaller("prefill", tokens)


def _row(name: str, peers: list[Peer], measure: Measure, rounds: int) -> dict[str, object]:
    """Every peer in turn, ``rounds`` times, after one round that doesn't count."""
    taken: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for round_ in range(rounds + 1):
        for peer in peers:
            speed = measure(peer)
            if round_:
                taken[peer.name].append(speed)
    medians = {peer: statistics.median(speeds) for peer, speeds in taken.items()}
    ratio = medians["roost"] / medians["llama.cpp"]
    shown = "".join(f"{medians[peer]:9.1f} ({min(s):6.1f} - {max(s):6.1f})" for peer, s in taken.items())
    print(f"{name:34}{shown}{ratio:8.2f}x", flush=True)
    return {"name": name, "speeds": taken, "ratio": ratio}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
