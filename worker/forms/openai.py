"""What OpenAI's answers have in common: the answer read to its end, calls, log-probabilities, usage, errors."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runtime.answer_text import TokenLogprob
from runtime.config import Usage
from runtime.tasks.text_generation import Event, Finished, TextDelta
from runtime.tool_calls import ToolCall
from worker.errors import AiError

if TYPE_CHECKING:
    from worker.answer import Answer


@dataclass(slots=True)
class Heard:
    """An answer's events so far. ``reason``: OpenAI's finish reason, once there is one."""

    text: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    reason: str | None = None
    usage: Usage = field(default_factory=lambda: Usage(0, 0))

    def hear(self, event: Event) -> None:
        """Add one event."""
        match event:
            case TextDelta(text, tokens):
                self.text += text
                self.logprobs += tokens
            case ToolCall():
                self.calls.append(event)
            case Finished(reason, usage):
                self.reason = "tool_calls" if self.calls and reason == "stop" else reason or "stop"
                self.usage = usage


async def heard(events: AsyncIterator[Event]) -> Heard:
    """The whole answer."""
    so_far = Heard()
    async for event in events:
        so_far.hear(event)
    return so_far


def head(kind: str, id_: str, model: str) -> dict[str, Any]:
    """The first fields of an answer."""
    return {"id": id_, "object": kind, "created": int(time.time()), "model": model}


def usage_of(said: Heard, answer: Answer) -> dict[str, Any]:
    """A stream's usage."""
    return {**said.usage.as_dict(), **cost_of(answer)}


def cost_of(answer: Answer) -> dict[str, float]:
    """A stream's neurons, where there is a price: its headers have gone when they are known."""
    return {} if answer.neurons is None else {"neurons": round(answer.neurons, 4)}


def described_call(call: ToolCall) -> dict[str, Any]:
    """A call in a chat message."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def legacy_call(call: ToolCall) -> dict[str, Any]:
    """A call as ``functions`` had it, before there were tools."""
    return {"function_call": {"name": call.name, "arguments": call.arguments}}


def told_error(error: AiError) -> dict[str, Any]:
    """The frame in which a stream breaks off."""
    return {**error.to_dict(), **openai_error(error, error.message)}


def openai_error(error: AiError, message: str) -> dict[str, Any]:
    """What OpenAI's SDKs look for in a refusal, with Cloudflare's code: the newest show ``error.message`` alone."""
    told = {"message": f"{error.code}: {message}", "type": error.name, "code": str(error.code), "param": None}
    return {"error": told}
