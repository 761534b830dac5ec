"""How fast is the engine, beside others on the same weights? Run by with_peers.sh (``make speed``).

All sides take turns, round by round, with the same number of threads; a figure is the median of the rounds, with their
spread. llama.cpp reads the same GGUF file; onnxruntime-genai and transformers read its dequantised checkpoint.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from operator import methodcaller
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from runtime.artifacts import ArtifactStore
from runtime.device import usable_cores
from runtime.stand_in import GGUF_NAME, find_stand_in
from tests.benchmarks import doors, engine_alone
from tests.benchmarks.machine import processor, read_bandwidth, resident
from tests.benchmarks.peer import STEPS, WARM, Peer
from tests.benchmarks.roost_peer import Roost

ROWS = (1, 2, 4, 8, 16)
CONTEXTS = (128, 960)
PROMPTS = (128, 512, 1024)
CAPACITY = 1100
NAMES = ("roost", "llama.cpp", "genai", "transformers")
Measure: TypeAlias = Callable[[Peer], float | None]
Rounds: TypeAlias = dict[str, list[float]]


def main() -> None:
    """Measure, print tables, write JSON."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--json", type=Path, default=Path("speed.json"))
    options.add_argument("--load", choices=NAMES, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.load:
        print(json.dumps(_loaded(chosen.load)))
        return
    prepare()
    threads = usable_cores()
    print(f"{processor()}, {threads} threads, {chosen.rounds} rounds; medians (least - most)")
    bandwidth = read_bandwidth(threads)
    print(f"memory read bandwidth, {threads} threads: {bandwidth:.1f} GB/s\n")
    loads = _loads(chosen.rounds)
    rows = _speeds(chosen.rounds)
    alone = engine_alone.measure(chosen.rounds)
    print()
    through = asyncio.run(doors.main(chosen.rounds))
    found = {"processor": processor(), "threads": threads, "read_gb_per_second": bandwidth}
    chosen.json.write_text(
        json.dumps({**found, "loads": loads, "rows": rows, "engine": alone, "doors": through}, indent=2) + "\n"
    )


def make(name: str, rows: int) -> Peer:
    """One side, loaded, with room for ``rows`` rows. Its library is imported here: it counts when it is loaded."""
    store, threads = ArtifactStore(), usable_cores()
    artifact, gguf = find_stand_in(store), store.downloads / GGUF_NAME
    if artifact is None or not gguf.exists():
        raise SystemExit("the stand-in isn't here: type roost pull --stand-in")
    folder = store.root / "benchmarks"
    match name:
        case "roost":
            return Roost(artifact.decoder, threads, CAPACITY, rows)
        case "llama.cpp":
            from tests.benchmarks.llama_cpp_peer import LlamaCpp

            return LlamaCpp(gguf, threads, CAPACITY, rows)
        case "genai":
            from tests.benchmarks.genai_peer import GenAI

            return GenAI(folder / "genai", threads, CAPACITY)
        case _:
            from tests.benchmarks.transformers_peer import Transformers

            return Transformers(folder / "checkpoint", threads)


def prepare() -> None:
    """Make the checkpoints that the others read, where they aren't there yet."""
    from tests.benchmarks import genai_peer, transformers_peer

    store = ArtifactStore()
    folder = store.root / "benchmarks"
    transformers_peer.dequantise(store.downloads / GGUF_NAME, folder / "checkpoint")
    genai_peer.build(folder / "checkpoint", folder / "genai")


def _loaded(name: str) -> tuple[float, float]:
    """Seconds to import and load a side, and its resident memory in MB after reading 512 tokens and writing some."""
    started = time.perf_counter()
    peer = make(name, 1)
    seconds = time.perf_counter() - started
    peer.prefill(512)
    peer.decode(1, 128)
    return seconds, resident()


def _loads(rounds: int) -> dict[str, Any]:
    """A process of its own for each load."""
    print(f"{'':38}" + "".join(f"{name:>26}" for name in NAMES))
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
    for _ in range(rounds):
        for name in NAMES:  # the file cache is warm: what is measured is the work
            command = [sys.executable, __file__, "--load", name]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            found[name].append(json.loads(said.stdout.splitlines()[-1]))
    for place, what in enumerate(("load, seconds", "resident after 512 tokens, MB")):
        _show(what, {name: [load[place] for load in loads] for name, loads in found.items()}, versus=False)
    return found


def _speeds(rounds: int) -> list[dict[str, Any]]:
    peers = [make(name, max(ROWS)) for name in NAMES]
    roost = peers[0]
    assert isinstance(roost, Roost)
    roost.fill()
    rows = [_row(what, peers, measure, rounds) for what, measure in _measures()]
    if not roost.needs_companion:
        print("a lone row has the bits of one of several here: the law costs nothing. With a companion it would be:")
    for context in CONTEXTS:
        taken = {"roost": [roost.accompanied(context) for _ in range(rounds)]}
        rows.append(_show(f"1 row with a companion, context {context}", taken))
    return rows


def _measures() -> Iterator[tuple[str, Measure]]:
    for context in CONTEXTS:
        for rows in ROWS:
            yield f"decode tokens/s, {rows} rows, context {context}", methodcaller("decode", rows, context)
    for tokens in PROMPTS:
        yield f"prefill tokens/s of {tokens}", methodcaller("prefill", tokens)


def _row(what: str, peers: list[Peer], measure: Measure, rounds: int) -> dict[str, Any]:
    """Every side in turn, ``rounds`` times, after one round that doesn't count."""
    taken: Rounds = {peer.name: [] for peer in peers}
    for round_ in range(rounds + 1):
        for peer in peers:
            speed = measure(peer)
            if round_ and speed is not None:
                taken[peer.name].append(speed)
    return _show(what, taken)


def _show(what: str, taken: Mapping[str, list[float]], *, versus: bool = True) -> dict[str, Any]:
    """Print a line; with the ratio to llama.cpp where it was measured."""
    cells = (
        f"{statistics.median(s):8.1f} ({min(s):6.1f} - {max(s):6.1f})" if s else f"{'-':>26}" for s in taken.values()
    )
    ratio = None
    if versus and taken.get("llama.cpp"):
        ratio = float(np.median(taken["roost"]) / np.median(taken["llama.cpp"]))
    print(f"{what:38}{''.join(cells)}" + ("" if ratio is None else f"{ratio:8.2f}x"), flush=True)
    return {"name": what, "rounds": dict(taken), "ratio": ratio}


if __name__ == "__main__":
    assert STEPS + WARM + max(CONTEXTS) <= CAPACITY
    main()
