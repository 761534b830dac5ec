"""Faults on purpose, so that people can test their error paths: the table's errors, delays, answers that break off.

Drawn from one seeded stream, a draw for every fault and every request in the order of their coming: the same requests
meet the same faults.
"""

from __future__ import annotations

import asyncio
import random
import re
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from runtime.errors import Refused
from runtime.tasks.text_generation import Event
from worker.answer import Answer
from worker.call import Ask, Call
from worker.errors import AiError, StreamBroken, row_of

_UNITS = {"ms": 0.001, "s": 1.0}
_BEFORE_THE_CUT = 3  # events that are let through


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind: an error's ``code``, a delay of ``seconds``, or a cut; each with its probability per request."""

    probability: float
    code: int | None = None
    seconds: float = 0.0
    cut: bool = False


def parse_fault(text: str) -> Fault:
    """``CODE:PROBABILITY``, ``cut:PROBABILITY``, ``slow:DURATION`` or ``slow:DURATION:PROBABILITY``.

    Raises :class:`Refused` for anything else, and for a code that the table of errors doesn't have.
    """
    kind, _, rest = text.partition(":")
    if kind == "slow":
        duration, _, share = rest.partition(":")
        return Fault(_probability(share or "1", text), seconds=_seconds(duration, text))
    if kind == "cut":
        return Fault(_probability(rest, text), cut=True)
    if not kind.isdecimal() or row_of(int(kind)) is None:
        raise Refused(f"--fault {text}: write it as CODE:0.1 (a code of docs/errors.md), slow:2s or cut:0.05")
    return Fault(_probability(rest, text), code=int(kind))


class Faults:
    """An interposer that makes ``faults`` happen."""

    def __init__(self, faults: Sequence[Fault], seed: int) -> None:
        self._faults = tuple(faults)
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    async def __call__(self, call: Call, ask: Ask) -> Answer:
        """The answer, late, broken off, or not at all."""
        with self._lock:
            met = [fault for fault in self._faults if self._random.random() < fault.probability]
        for fault in met:
            await asyncio.sleep(fault.seconds)
            if fault.code is not None:
                raise AiError.injected(fault.code, call.request_id)
        answer = await ask(call)
        return answer.with_events(_cut(answer)) if any(fault.cut for fault in met) else answer


async def _cut(answer: Answer) -> AsyncGenerator[Event]:
    events = aiter(answer)
    try:
        for _ in range(_BEFORE_THE_CUT):
            if (event := await anext(events, None)) is None:
                break
            yield event
    finally:
        await answer.aclose()
    raise StreamBroken("cut on purpose, by --fault")


def _probability(text: str, whole: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise Refused(f"--fault {whole}: a probability is from 0 to 1")
    return value


def _seconds(text: str, whole: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s)", text)
    if found is None:
        raise Refused(f"--fault {whole}: a delay is like 2s or 250ms")
    return float(found[1]) * _UNITS[found[2]]
