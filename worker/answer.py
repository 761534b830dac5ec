"""An answer in the making: its events, who gives it, and its two forms, a result and a stream."""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, TypeAlias

from catalog.shape import Shape
from runtime.config import Usage
from runtime.pool import ServedBy
from runtime.tasks.text_generation import Event, Finished
from worker.errors import AiError
from worker.forms.chosen import form_of
from worker.recent import Entry

Meter: TypeAlias = Callable[[Usage], float | None]


class Answer:
    """The typed events of one request. ``streaming``: whether the caller asked for a stream.

    ``meter`` hears the usage at the end, and says what it would have cost in neurons. Whoever stops iterating, or calls
    :meth:`aclose`, stops the computation.
    """

    def __init__(
        self,
        events: AsyncGenerator[Event],
        *,
        streaming: bool,
        request_id: str,
        served_by: ServedBy | None,
        meter: Meter | None = None,
    ) -> None:
        self._events = self._told(events, request_id)
        self._meter = meter
        self._entry: Entry | None = None
        self.usage: Usage | None = None  # known once the answer has ended
        self.neurons: float | None = None  # known then too, where there is a price
        self.shape, self.form = Shape.NATIVE, form_of(Shape.NATIVE, "", {})
        self.streaming = streaming
        self.request_id = request_id
        self.served_by = served_by

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events

    async def aclose(self) -> None:
        """Stop computing. Idempotent."""
        await self._events.aclose()
        if self._entry is not None:  # events that nobody began to read don't hear that they are closed
            self._entry.leave()

    def watched_by(self, entry: Entry) -> Answer:
        """This answer, of which ``entry`` hears how it goes on."""
        self._entry = entry
        entry.start(self.served_by)
        weakref.finalize(self, entry.leave).atexit = False  # dropped events that nobody began to read close nothing
        return self

    async def result(self) -> dict[str, Any]:
        """The whole answer in its form. Cancelling this stops the computation."""
        try:
            result: dict[str, Any] = await self.form.whole(self)
            return result
        finally:
            await self.aclose()

    def frames(self) -> AsyncIterator[bytes]:
        """The answer as server-sent events, in its form."""
        return self.form.frames(self)

    def shaped(self, shape: Shape, model: str, inputs: object) -> Answer:
        """This answer, given in ``shape``."""
        self.shape, self.form = shape, form_of(shape, model, inputs)
        return self

    def with_events(self, events: AsyncGenerator[Event]) -> Answer:
        """This answer with ``events``, which are made from its own, in their place."""
        return Answer(
            events,
            streaming=self.streaming,
            request_id=self.request_id,
            served_by=self.served_by,
            meter=lambda _: self.neurons,  # it has heard of the usage by itself
        )

    async def _told(self, events: AsyncGenerator[Event], request_id: str) -> AsyncGenerator[Event]:
        """``events``, with whatever goes wrong among them told as an :class:`AiError`."""
        try:
            async for event in events:
                if isinstance(event, Finished):
                    self.usage = event.usage
                    self.neurons = self._meter(event.usage) if self._meter else None
                    if self._entry is not None:
                        self._entry.finish(event.usage, event.reason)
                yield event
        except Exception as fault:
            error = AiError.of(fault, request_id)
            if self._entry is not None:
                self._entry.fail(error.code)
            raise error from fault
        finally:
            if self._entry is not None:
                self._entry.leave()
            await events.aclose()

    @property
    def headers(self) -> dict[str, str]:
        """What every door says beside the answer; ``x-roost-stand-in`` only where the weights aren't the model's.

        ``cf-ai-neurons`` only once it has ended: a stream tells its neurons in the usage.
        """
        headers = {"cf-ai-req-id": self.request_id}
        if self.neurons is not None:
            headers["cf-ai-neurons"] = str(round(self.neurons, 4))
        if self.served_by is not None:
            headers["x-roost-weights"] = f"{self.served_by.weights} {self.served_by.precision}"
            headers["x-roost-device"] = self.served_by.device
            if self.served_by.stand_in:
                headers["x-roost-stand-in"] = self.served_by.weights
        return headers


class AIStream:
    """What ``run`` returns for ``"stream": true``: an async iterator of SSE bytes, as the platform's binding gives.

    ``async with`` or :meth:`aclose` ends it early; so does dropping it.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._frames = answer.frames()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._frames

    async def __anext__(self) -> bytes:
        return await anext(self._frames)

    def events(self) -> AsyncIterator[Event]:
        """The same stream as typed events; raises :class:`AiError` where the bytes would carry an error frame.

        Read either the bytes or the events: they come from one source.
        """
        return aiter(self._answer)

    @property
    def served_by(self) -> ServedBy | None:
        """Which weights answer, and where; ``None`` where a remote roost didn't say."""
        return self._answer.served_by

    @property
    def request_id(self) -> str:
        """The request's id, as in the ``cf-ai-req-id`` header."""
        return self._answer.request_id

    async def aclose(self) -> None:
        """Stop computing. Idempotent."""
        await self._answer.aclose()

    async def __aenter__(self) -> AIStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
