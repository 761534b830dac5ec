"""Loads a decoder with the session that its graph needs, and tries out a graph that was made elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.concat_session import ConcatSession
from runtime.device import Device
from runtime.errors import ArtifactError, RuntimeFault
from runtime.graph_interface import GraphInterface
from runtime.masked_session import MaskedSession
from runtime.scheduler import Release, Span, StepPlan
from runtime.session import DecoderSession

# Tokens to try with: any will do, but for the start and end that low ids often are.
_TRIED = (3, 11, 5, 7, 2, 13, 4, 9, 6, 8, 12, 10)
_STEPS = 5  # of them one by one
_LOSS = 0.5  # of the logits' spread; a cache mixed up loses more, rounding of a chunk as a whole less


def open_decoder(
    model: Path,
    interface: GraphInterface | None,
    *,
    slots: int,
    capacity: int,
    device: Device,
    threads: int | None = None,
    deterministic: bool = True,
) -> DecoderSession | ConcatSession:
    """The decoder ``model``, loaded. ``interface`` is a foreign graph's, ``None`` for one of our own.

    Raises :class:`ArtifactError` or :class:`DeviceUnavailable` in one sentence.
    """
    if interface is not None and interface.layout == "concat":
        return ConcatSession(model, interface, capacity=capacity, device=device, threads=threads)
    if interface is not None and interface.layout == "in_place":
        return MaskedSession(
            model,
            interface,
            slots=slots,
            capacity=capacity,
            device=device,
            threads=threads,
            deterministic=deterministic,
        )
    return DecoderSession(
        model, slots=slots, capacity=capacity, device=device, threads=threads, deterministic=deterministic
    )


def try_out(model: Path, interface: GraphInterface, device: Device) -> None:
    """Run a foreign graph a little; :class:`ArtifactError` unless it says the same with its cache as without.

    What a prompt gives at once must come from a chunk and steps beside another row, too.
    """
    tokens = tuple(token % interface.vocab for token in _TRIED)
    try:
        session = open_decoder(model, interface, slots=3, capacity=4 * len(tokens), device=device)
        try:
            at_once, in_steps = _read(session, tokens), _step(session, tokens)
        finally:
            session.close()
    except RuntimeFault:
        raise
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ArtifactError(f"ONNX Runtime can't run {model.name}: {str(error).splitlines()[0]}") from error
    if not np.isfinite(at_once).all():
        raise ArtifactError("the graph gives logits that are no numbers")
    lost = np.sqrt(np.mean((at_once - in_steps) ** 2))
    if not lost <= _LOSS * at_once.std():
        raise ArtifactError("the graph computes something else from its cache than without it, and can't be served")


def _read(session: DecoderSession | ConcatSession, tokens: tuple[int, ...]) -> NDArray[np.float32]:
    logits = session.run(StepPlan((), (), Span(0, 0, 0, tokens, samples=True)))
    session.run(StepPlan((Release(0),), (), Span(0, 0, 0, tokens[::-1], samples=False)))
    return logits[-1:]


def _step(session: DecoderSession | ConcatSession, tokens: tuple[int, ...]) -> NDArray[np.float32]:
    """The logits after ``tokens``, the last of them read one by one beside a longer row in slot 0."""
    first = len(tokens) - _STEPS
    session.run(StepPlan((), (), Span(1, 1, 0, tokens[:first], samples=False)))
    for place in range(first, len(tokens)):
        other = Span(0, 0, len(tokens) + place - first, (tokens[0],), samples=False)
        mine = Span(1, 1, place, (tokens[place],), samples=place == len(tokens) - 1)
        logits = session.run(StepPlan((), (other, mine), None))
    return logits[-1:]
