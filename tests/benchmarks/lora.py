"""What adapters cost: tokens per second of the stand-in with none, one and several of them in a step.

`make lora-speed`. Cases take turns. ``--cpu``: one thread's own seconds, which other work hardly changes. "One run for
each adapter": ONNX Runtime's own LoraAdapter would need it, whose runs have one adapter each.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from runtime.adapter import Adapter
from runtime.artifacts import ArtifactStore
from runtime.device import Device, usable_cores
from runtime.scheduler import Span, StepPlan
from runtime.session import DecoderSession
from runtime.stand_in import find_stand_in
from tests.benchmarks.machine import processor, resident
from tests.models.adapted import smollm2_adapter
from tests.runtime.reference.smollm2_adapter import SHAPES
from tests.runtime.reference.tiny_adapters import Kind

ROWS, CONTEXT, CHUNK, STEPS, ROUNDS = 8, 128, 192, 12, 7
ALL = Kind(tuple(name.split(".")[1] for name in SHAPES), {"r": 8, "lora_alpha": 1.0})
QV = Kind(("q_proj", "v_proj"), {"r": 8, "lora_alpha": 1.0})


ALONE = "--cpu" in sys.argv
THREADS = 1 if ALONE else usable_cores()
clock = time.thread_time if ALONE else time.perf_counter


def open_session(decoder: Path) -> DecoderSession:
    return DecoderSession(decoder, slots=ROWS, capacity=CONTEXT + CHUNK, device=Device(), threads=THREADS)


def decode(session: DecoderSession, adapters: Sequence[Adapter | None], *, together: bool = True) -> float:
    """Tokens per second over rows with these adapters, one token each at a time."""
    rows = [Span(row, row, CONTEXT, (100 + row,), True, adapter=who) for row, who in enumerate(adapters)]
    plans = [StepPlan((), tuple(rows), None)] if together else [StepPlan((), (row,), None) for row in rows]
    return timed(lambda: [session.run(plan) for plan in plans], len(adapters), STEPS)


def prefill(session: DecoderSession, adapter: Adapter | None) -> float:
    chunk = Span(0, 0, 0, tuple(range(100, 100 + CHUNK)), samples=True, adapter=adapter)
    return timed(lambda: session.run(StepPlan((), (), chunk)), CHUNK, 1)


def timed(step: Callable[[], object], tokens: int, steps: int) -> float:
    step()
    started = clock()
    for _ in range(steps):
        step()
    return tokens * steps / (clock() - started)


def main() -> None:
    stand_in = find_stand_in(ArtifactStore())
    assert stand_in is not None
    plain, adapted, few = (open_session(stand_in.decoder) for _ in range(3))
    with tempfile.TemporaryDirectory() as folder:
        many = [smollm2_adapter(Path(folder) / str(seed), seed, ALL) for seed in range(ROWS)]
        narrow = smollm2_adapter(Path(folder) / "qv", 0, QV)
    before, started = resident(), time.perf_counter()
    adapted.run(StepPlan((), (), Span(0, 0, 0, (1, 2), samples=False, adapter=many[0])))
    print(f"the first adapter: {time.perf_counter() - started:.2f} s, {resident() - before:+.0f} MB resident")
    few.run(StepPlan((), (), Span(0, 0, 0, (1, 2), samples=False, adapter=narrow)))
    cases: dict[str, Callable[[], float]] = {}
    for rows in (1, ROWS):
        cases |= {
            f"{rows} rows, no adapter ever": lambda rows=rows: decode(plain, [None] * rows),  # type: ignore[misc]
            f"{rows} rows, none in the step": lambda rows=rows: decode(adapted, [None] * rows),  # type: ignore[misc]
            f"{rows} rows, none, q and v adapted": lambda rows=rows: decode(few, [None] * rows),  # type: ignore[misc]
            f"{rows} rows, one on q and v": lambda rows=rows: decode(few, [narrow] * rows),  # type: ignore[misc]
            f"{rows} rows, one on everything": lambda rows=rows: decode(adapted, many[:1] * rows),  # type: ignore[misc]
        }
    for count in (2, 4, 8):
        who = (many[:count] * ROWS)[:ROWS]
        cases[f"{ROWS} rows, {count} on everything"] = lambda who=who: decode(adapted, who)  # type: ignore[misc]
    cases[f"{ROWS} rows, 8, one run for each adapter"] = lambda: decode(adapted, many, together=False)
    cases[f"chunk of {CHUNK}, no adapter ever"] = lambda: prefill(plain, None)
    cases[f"chunk of {CHUNK}, none in the step"] = lambda: prefill(adapted, None)
    cases[f"chunk of {CHUNK}, one on everything"] = lambda: prefill(adapted, many[0])
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, case in cases.items():
            found[name].append(case())
    per = "second of one thread" if ALONE else f"second, {THREADS} threads"
    print(f"{processor()}, tokens per {per}, median (best) of {ROUNDS} rounds")
    for name, speeds in found.items():
        print(f"{name:40} {statistics.median(speeds):7.0f} ({max(speeds):.0f})")


if __name__ == "__main__":
    main()
