"""Streams: the SSE frames of an answer, and the events in such frames. Knows no engine and no route."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from runtime.config import Usage
from runtime.tasks.text_generation import Event, Finished, TextDelta
from runtime.tool_calls import ToolCall
from worker.errors import AiError, StreamBroken

CONTENT_TYPE = "text/event-stream"
DONE = "[DONE]"
"""The last frame of a stream that came to its end."""
_log = logging.getLogger(__name__)


def sse_frame(data: dict[str, Any] | str) -> bytes:
    """One server-sent event. Every frame that roost sends is made here."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"data: {text}\n\n".encode()


def native_call(call: ToolCall) -> dict[str, Any]:
    """A tool call as the platform's native results have it: the arguments an object, no id."""
    return {"name": call.name, "arguments": json.loads(call.arguments)}


async def sse_frames(
    events: AsyncIterator[Event],
    neurons: Callable[[], float | None] = lambda: None,
    shown: Callable[[ToolCall], dict[str, Any]] = native_call,
) -> AsyncIterator[bytes]:
    """The platform's native stream: a frame per piece of text, the usage in the last one, then ``[DONE]``.

    ``neurons``: what the answer would have cost, asked at its end. ``shown``: how a call is.
    """
    async for frame in framed(_native(events, neurons, shown), AiError.to_dict):
        yield frame


async def framed(
    bodies: AsyncIterator[dict[str, Any] | str], refuse: Callable[[AiError], dict[str, Any]]
) -> AsyncIterator[bytes]:
    """``bodies`` as frames.

    A fault in mid-stream becomes a frame with the error, and no ``[DONE]``: clients take that for a cut stream.
    """
    try:
        async for body in bodies:
            yield sse_frame(body)
    except Exception as fault:
        error = AiError.of(fault)
        _log.warning("a stream broke off: %s", error)
        yield sse_frame(refuse(error))


async def _native(
    events: AsyncIterator[Event], neurons: Callable[[], float | None], shown: Callable[[ToolCall], dict[str, Any]]
) -> AsyncIterator[dict[str, Any] | str]:
    async for event in events:
        match event:
            case TextDelta(text) if text:
                yield {"response": text}
            case ToolCall():
                yield {"response": "", "tool_calls": [shown(event)]}
            case Finished(usage=usage):
                cost = neurons()
                told = {} if cost is None else {"neurons": round(cost, 4)}
                yield {"response": "", "usage": {**usage.as_dict(), **told}}
    yield DONE


def parse_call(call: Any) -> ToolCall:
    """The call that :func:`native_call` wrote."""
    return ToolCall(str(call["name"]), json.dumps(call["arguments"], ensure_ascii=False))


async def parse_frames(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    """The events in the lines of a native stream.

    Raises :class:`AiError` for an error frame, :class:`StreamBroken` for a missing end or what is no frame.
    """
    async for line in lines:
        if not line.startswith("data: "):
            continue
        if (data := line.removeprefix("data: ")) == DONE:
            return
        for event in _events_in(data):
            yield event
    raise StreamBroken("the stream broke off before its end")


def _events_in(data: str) -> list[Event]:
    try:
        frame = json.loads(data)
        if frame.get("errors"):
            raise AiError.from_dict(frame)
        events: list[Event] = [TextDelta(frame["response"])] if frame.get("response") else []
        events += map(parse_call, frame.get("tool_calls", ()))
        if usage := frame.get("usage"):
            events.append(Finished(None, Usage.from_dict(usage)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StreamBroken(f"the stream broke off in what is no frame: {data[:80]!r}") from error
    return events
