"""One run of a model on its way to the engine, and those who may stand in that way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeAlias

from runtime.progress import Progress
from worker.answer import Answer


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked: ``inputs`` as they came, ``extras`` of the door; ``progress`` hears how far it comes."""

    model: str
    inputs: object
    extras: Mapping[str, Any]
    request_id: str
    progress: Progress = field(default_factory=Progress)

    @property
    def streaming(self) -> bool:
        """Whether a stream is asked for."""
        return isinstance(self.inputs, Mapping) and self.inputs.get("stream") is True


Ask: TypeAlias = Callable[[Call], Awaitable[Answer]]


class Interposer(Protocol):
    """Stands between the doors and the engine: records, replays, breaks things."""

    async def __call__(self, call: Call, ask: Ask) -> Answer:
        """An answer to ``call``, by ``ask`` or in its place."""


def through(interposers: tuple[Interposer, ...], ask: Ask) -> Ask:
    """``ask`` behind all of ``interposers``, the first of which hears a call first."""
    for interposer in reversed(interposers):
        ask = partial(interposer, ask=ask)
    return ask
