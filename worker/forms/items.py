"""The items of OpenAI's ``responses`` as messages of a chat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtime.errors import BadParameter
from worker.errors import NotEmulated

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
        inputs["tools"] = [_function(tool, place) for place, tool in enumerate(_list(tools, "/tools"))]
    text = body.get("text")
    if isinstance(text, Mapping) and isinstance(form := text.get("format"), Mapping):
        inputs["response_format"] = {"type": form.get("type"), "json_schema": form.get("schema")}
    return inputs


def of_developer(message: Any) -> Any:
    """OpenAI's newer word for the system is the developer."""
    if isinstance(message, Mapping) and message.get("role") == "developer":
        return {**message, "role": "system"}
    return message


def _items(body: Mapping[str, Any]) -> list[Any]:
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else _list(given, "/input")
    messages = [_of_item(item) for item in items if not _is_reasoning(item)]
    instructions = body.get("instructions")
    return [{"role": "system", "content": instructions}, *messages] if instructions else messages


def _is_reasoning(item: Any) -> bool:
    return isinstance(item, Mapping) and item.get("type") == "reasoning"


def _of_item(item: Any) -> Any:
    if not isinstance(item, Mapping):
        return item
    if item.get("type") == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        return {"role": "assistant", "content": "", "tool_calls": [call]}
    if item.get("type") == "function_call_output":
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")}
    content = item.get("content")
    if isinstance(content, list):
        content = [_part(part) for part in content]
    return of_developer({"role": item.get("role"), "content": content})


def _part(part: Any) -> Any:
    if isinstance(part, Mapping) and part.get("type") in _TEXT_PARTS:
        return {"type": "text", "text": part.get("text")}
    return part


def _function(tool: Any, place: int) -> Any:
    if not isinstance(tool, Mapping) or tool.get("type") != "function":
        raise BadParameter(f"/tools/{place}", f"'/tools/{place}' must be a function: roost has no tools of its own")
    return {name: value for name, value in tool.items() if name not in ("type", "strict")}


def _list(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadParameter(path, f"'{path}' must be a list")
    return value
