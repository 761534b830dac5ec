"""The items of OpenAI's ``responses`` as messages of a chat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtime.errors import BadParameter
from worker.errors import NotEmulated
from worker.forms.tools import as_list, flat_function, with_tool_calls

_TEXT_PARTS = ("input_text", "output_text", "text")
_STORED = ("previous_response_id", "conversation", "background", "prompt")


def read_response(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a ``responses`` request asks for, in the platform's words: messages, tools, the limit, the JSON Schema.

    Nothing is stored, so nothing can be gone on from: :class:`NotEmulated`.
    """
    for name in _STORED:
        if body.get(name):
            raise NotEmulated(f"'/{name}': roost stores no responses; send the whole conversation as input")
    inputs: dict[str, Any] = {"messages": _items(body)}
    if body.get("max_output_tokens") is not None:
        inputs["max_tokens"] = body["max_output_tokens"]
    if tools := body.get("tools"):
        inputs["tools"] = [flat_function(tool, place) for place, tool in enumerate(as_list(tools, "/tools"))]
    text = body.get("text")
    if isinstance(text, Mapping) and isinstance(form := text.get("format"), Mapping):
        inputs["response_format"] = {"type": form.get("type"), "json_schema": form.get("schema")}
    return inputs


def of_message(message: Any) -> Any:
    """A message in the newest spelling of its calls; OpenAI's newer word for the system is the developer."""
    if not isinstance(message, Mapping):
        return message
    told = with_tool_calls(message)
    return {**told, "role": "system"} if told.get("role") == "developer" else told


def _items(body: Mapping[str, Any]) -> list[Any]:
    given, instructions = body.get("input"), body.get("instructions")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if given is None and instructions:
        given = []
    if not isinstance(given, list):
        raise BadParameter("/input", "'/input' must be text or a list of items")
    messages = [_of_item(item, place) for place, item in enumerate(given) if not _is_reasoning(item)]
    return [{"role": "system", "content": instructions}, *messages] if instructions else messages


def _is_reasoning(item: Any) -> bool:
    return isinstance(item, Mapping) and item.get("type") == "reasoning"


def _of_item(item: Any, place: int) -> Any:
    if not isinstance(item, Mapping):
        return item
    kind = item.get("type", "message")
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        return {"role": "assistant", "content": "", "tool_calls": [call]}
    if kind == "function_call_output":
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": _content(item.get("output"))}
    if kind != "message":
        raise NotEmulated(f"'/input/{place}': an item of the type {kind}; roost knows messages and function calls")
    return of_message({"role": item.get("role"), "content": _content(item.get("content"))})


def _content(content: Any) -> Any:
    return [_part(part) for part in content] if isinstance(content, list) else content


def _part(part: Any) -> Any:
    if isinstance(part, Mapping) and part.get("type") in _TEXT_PARTS:
        return {"type": "text", "text": part.get("text")}
    return part
