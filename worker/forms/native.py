"""The platform's own form: ``{"response": …, "usage": {…}}``, and a stream of pieces of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, NamedTuple

from runtime.tasks.text_generation import Finished, Result, TextDelta
from runtime.tool_calls import ToolCall
from worker.forms.openai import described_call
from worker.streams import native_call, sse_frames

if TYPE_CHECKING:
    from worker.answer import Answer


class NativeForm(NamedTuple):
    """``functions``: tool calls are nested as OpenAI's are, their arguments an object all the same."""

    functions: bool = False

    async def whole(self, answer: Answer) -> dict[str, Any]:
        """``response`` is text, or the value where JSON was asked for; ``tool_calls`` only where there are some."""
        pieces, calls, usage, is_json = [], [], {}, False
        value: dict[str, Any] | None = None
        async for event in answer:
            match event:
                case TextDelta(text):
                    pieces.append(text)
                case Result():
                    value = event.value
                case ToolCall():
                    calls.append(self._call(event))
                case Finished(usage=counts):
                    usage, is_json = counts.as_dict(), event.json
        if value is not None:  # of a model that doesn't write
            return value
        text = "".join(pieces)
        result = {"response": json.loads(text) if is_json else text, "usage": usage}
        return {**result, "tool_calls": calls} if calls else result

    def frames(self, answer: Answer) -> AsyncIterator[bytes]:
        """A frame per piece of text, the usage in the last one."""
        return sse_frames(aiter(answer), lambda: answer.neurons, self._call)

    def _call(self, call: ToolCall) -> dict[str, Any]:
        if not self.functions:
            return native_call(call)
        nested = described_call(call)
        return {**nested, "function": native_call(call)}
