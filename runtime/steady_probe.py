"""Finds out, when a model is loaded on a GPU, what holds there: the same words under any load, and captured graphs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.scheduler import Span, StepPlan
from runtime.session import DecoderSession
from runtime.steady_decode import SteadyDecode

_IDS = 31  # token ids used, from 1; every vocabulary has them


@dataclass(frozen=True, slots=True)
class Findings:
    """``same_words``: neither company, nor the slot, nor a second run changes a bit. ``capture_fault``: why steps can't
    be replayed from a captured graph, ``None`` where they can.
    """

    same_words: bool
    capture_fault: str | None


def probe(session: DecoderSession, *, rows: int, length: int) -> Findings:
    """Read ``length`` tokens in each of ``rows`` slots and decode, alone and together; what the slots held is lost."""
    steady = session.steady
    assert steady is not None
    capturing, steady.captures = steady.captures, False
    asks = tuple(Span(slot, slot, length, (1 + slot % _IDS,), samples=True) for slot in range(rows))
    same = _reads_alike(session, 0, rows - 1, length)
    alone = session.run(StepPlan((), asks[:1], None))
    for slot in range(rows):
        _read(session, slot, length, by=slot)
    _read(session, 0, length, by=0)
    together = session.run(StepPlan((), asks, None))
    same = same and np.array_equal(alone[0], together[0])
    fault = _capture_fault(session, steady, asks, together) if capturing else None
    steady.captures = capturing and fault is None
    return Findings(bool(same), fault)


def _read(session: DecoderSession, slot: int, length: int, *, by: int) -> NDArray[np.float32]:
    text = tuple(1 + (place + by) % _IDS for place in range(length))
    return session.run(StepPlan((), (), Span(slot, slot, 0, text, samples=True)))


def _reads_alike(session: DecoderSession, one: int, other: int, length: int) -> bool:
    """Whether the same text, read in two slots, gives the same logits and the same cache."""
    logits, again = (_read(session, slot, length, by=0) for slot in (other, one))
    kept, also = session.kept(other, length), session.kept(one, length)
    return np.array_equal(logits, again) and all(np.array_equal(kept[name], also[name]) for name in kept)


def _capture_fault(
    session: DecoderSession, steady: SteadyDecode, asks: tuple[Span, ...], expected: NDArray[np.float32]
) -> str | None:
    """Capture the step, replay it, and replay it with other tokens: all must have the bits of uncaptured steps."""
    others = tuple(Span(ask.sequence, ask.slot, ask.start, (ask.tokens[0] + 1,), samples=True) for ask in asks)
    plans = [StepPlan((), spans, None) for spans in (asks, asks, others)]
    steady.captures = True
    try:
        found = [session.run(plan) for plan in plans]
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        return str(error).splitlines()[0]
    finally:
        steady.captures = False
    wanted = [expected, expected, session.run(plans[2])]
    if all(np.array_equal(one, other) for one, other in zip(found, wanted, strict=True)):
        return None
    return "a replayed step gives other bits than one that isn't captured"
