"""OpenAI's ``response`` object, and the events in which it is streamed. Nothing is stored."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from runtime.config import Usage
from runtime.tasks.text_generation import Finished, TextDelta
from runtime.tool_calls import ToolCall
from worker.forms.openai import Heard, cost_of, heard, told_error
from worker.streams import framed

if TYPE_CHECKING:
    from worker.answer import Answer

Body = dict[str, Any]
_ECHOED = (
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "user",
)
_IDLE: Body = {
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": False,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}


class ResponsesForm:
    """The form of ``responses``; ``asked`` is the request's body, parts of which are said back.

    ``nulls``: whether what there isn't is said, as OpenAI does; cards' schemas have no place for it.
    """

    def __init__(self, asked: Mapping[str, Any], *, nulls: bool = True) -> None:
        echoed = {name: asked[name] for name in _ECHOED if asked.get(name) is not None}
        self._base = {
            **{name: value for name, value in _IDLE.items() if nulls or value is not None},
            **echoed,
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "model": asked.get("model"),
        }

    async def whole(self, answer: Answer) -> Body:
        """A ``response``."""
        said = await heard(aiter(answer))
        output = [_message(_new_id("msg"), said.text, "completed")] if said.text or not said.calls else []
        return self._ended(said, [*output, *(_call(_new_id("fc"), call) for call in said.calls)])

    def frames(self, answer: Answer) -> AsyncIterator[bytes]:
        """Typed events, numbered."""
        return framed(self._numbered(answer), told_error)

    async def _numbered(self, answer: Answer) -> AsyncIterator[Body | str]:
        number = 0
        async for event in self._events(answer):
            yield {**event, "sequence_number": number}
            number += 1

    async def _events(self, answer: Answer) -> AsyncIterator[Body]:
        for kind in ("created", "in_progress"):
            body = {**self._base, "status": "in_progress", "output": [], "usage": None}
            yield {"type": f"response.{kind}", "response": body}
        so_far, output, message = Heard(), list[Body](), _new_id("msg")
        async for event in answer:
            if isinstance(event, TextDelta) and event.text:
                for opening in () if so_far.text else _message_begins(message):
                    yield opening
                yield _of_text("output_text.delta", message, delta=event.text, logprobs=[])
            at_its_end = isinstance(event, Finished) and not output
            if at_its_end and not so_far.text:  # it said nothing, which is a message
                for opening in _message_begins(message):
                    yield opening
            if at_its_end or (isinstance(event, ToolCall) and so_far.text and not output):
                output.append(_message(message, so_far.text, "completed"))
                for closing in _message_ends(message, so_far.text, output[-1]):
                    yield closing
            if isinstance(event, ToolCall):
                output.append(_call(_new_id("fc"), event))
                for step in _call_events(len(output) - 1, output[-1]):
                    yield step
            so_far.hear(event)
        ended = self._ended(so_far, output)
        ended["usage"] |= cost_of(answer)
        yield {"type": f"response.{ended['status']}", "response": ended}

    def _ended(self, said: Heard, output: list[Body]) -> Body:
        cut = said.reason == "length"
        details = {"incomplete_details": {"reason": "max_output_tokens"}} if cut else {}
        return {
            **self._base,
            "status": "incomplete" if cut else "completed",
            **details,
            "output": output,
            "usage": _usage(said.usage),
        }


def _new_id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"


def _message(id_: str, text: str, status: str) -> Body:
    content = [_part(text)] if status == "completed" else []
    return {"type": "message", "id": id_, "role": "assistant", "status": status, "content": content}


def _part(text: str) -> Body:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _call(id_: str, call: ToolCall) -> Body:
    named = {"call_id": call.id, "name": call.name, "arguments": call.arguments}
    return {"type": "function_call", "id": id_, "status": "completed", **named}


def _of_text(kind: str, message: str, **fields: Any) -> Body:
    return {"type": f"response.{kind}", "item_id": message, "output_index": 0, "content_index": 0, **fields}


def _of_item(kind: str, place: int, item: Body) -> Body:
    return {"type": f"response.output_item.{kind}", "output_index": place, "item": item}


def _message_begins(message: str) -> Iterator[Body]:
    yield _of_item("added", 0, _message(message, "", "in_progress"))
    yield _of_text("content_part.added", message, part=_part(""))


def _message_ends(message: str, text: str, item: Body) -> Iterator[Body]:
    yield _of_text("output_text.done", message, text=text, logprobs=[])
    yield _of_text("content_part.done", message, part=_part(text))
    yield _of_item("done", 0, item)


def _call_events(place: int, item: Body) -> Iterator[Body]:
    where = {"item_id": item["id"], "output_index": place}
    arguments = item["arguments"]
    yield _of_item("added", place, {**item, "arguments": "", "status": "in_progress"})
    yield {"type": "response.function_call_arguments.delta", **where, "delta": arguments}
    yield {"type": "response.function_call_arguments.done", **where, "arguments": arguments, "name": item["name"]}
    yield _of_item("done", place, item)


def _usage(usage: Usage) -> Body:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    }
