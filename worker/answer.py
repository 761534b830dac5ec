"""An answer in the making: its events, who gives it, and its two forms, a result and a stream."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, TypeAlias

from runtime.config import Usage
from runtime.pool import ServedBy
from runtime.tasks.text_generation import Event, Finished, Result, TextDelta
from runtime.tool_calls import ToolCall
from worker.errors import AiError
from worker.streams import native_call, sse_frames

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
        self.usage: Usage | None = None  # known once the answer has ended
        self.neurons: float | None = None  # known then too, where there is a price
        self.streaming = streaming
        self.request_id = request_id
        self.served_by = served_by

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events

    async def aclose(self) -> None:
        """Stop computing. Idempotent."""
        await self._events.aclose()

    async def result(self) -> dict[str, Any]:
        """The whole answer: ``{"response": …, "usage": {…}}``, or what a model gives in place of text.

        ``response`` is text, or the value where JSON was asked for; ``tool_calls`` only where there are some.
        Cancelling this stops the computation.
        """
        pieces, calls, usage, is_json = [], [], {}, False
        value: dict[str, Any] | None = None
        try:
            async for event in self._events:
                match event:
                    case TextDelta(text):
                        pieces.append(text)
                    case Result():
                        value = event.value
                    case ToolCall():
                        calls.append(native_call(event))
                    case Finished(usage=counts):
                        usage, is_json = counts.as_dict(), event.json
        finally:
            await self.aclose()
        if value is not None:
            return value
        text = "".join(pieces)
        result = {"response": json.loads(text) if is_json else text, "usage": usage}
        return {**result, "tool_calls": calls} if calls else result

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
                yield event
        except Exception as fault:
            raise AiError.of(fault, request_id) from fault
        finally:
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
        self._frames = sse_frames(aiter(answer), lambda: answer.neurons)

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
