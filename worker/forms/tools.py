"""Tools in an OpenAI request, in the spellings that they had over the years, as ``tools`` and ``tool_choice``.

The oldest is ``functions`` with ``function_call``, which is answered in its own spelling.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtime.errors import BadParameter


def is_legacy(body: Mapping[str, Any]) -> bool:
    """Whether a chat speaks of ``functions`` alone."""
    return bool(body.get("functions")) and not body.get("tools")


def with_tools(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A chat's inputs with their tools and its choice in the newest spelling."""
    told = {name: value for name, value in inputs.items() if name not in ("functions", "function_call")}
    if is_legacy(inputs):
        functions = as_list(inputs["functions"], "/functions")
        told["tools"] = [{"type": "function", "function": function} for function in functions]
        told["tool_choice"] = inputs.get("function_call")
    for place, tool in enumerate(told.get("tools") or ()):
        refuse_other_kinds(tool, place)
    return with_allowed(told)


def with_allowed(inputs: dict[str, Any]) -> dict[str, Any]:
    """``inputs`` with the choice ``allowed_tools`` made: those alone are told, and called by its mode."""
    choice = inputs.get("tool_choice")
    if not isinstance(choice, Mapping) or choice.get("type") != "allowed_tools":
        return inputs
    allowed = choice.get("allowed_tools", choice)
    if not isinstance(allowed, Mapping):
        raise BadParameter("/tool_choice", "'/tool_choice/allowed_tools' must be an object")
    names = {_name(tool) for tool in as_list(allowed.get("tools"), "/tool_choice/tools")}
    tools = [tool for tool in inputs.get("tools") or () if _name(tool) in names]
    return {**inputs, "tools": tools, "tool_choice": allowed.get("mode")}


def with_tool_calls(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message of the history whose ``function_call``, or its result, is in the newest spelling."""
    if message.get("role") == "function":
        return {**message, "role": "tool"}
    if isinstance(call := message.get("function_call"), Mapping) and not message.get("tool_calls"):
        told = {name: value for name, value in message.items() if name != "function_call"}
        return {**told, "tool_calls": [{"type": "function", "function": call}]}
    return message


def flat_function(tool: Any, place: int) -> Any:
    """A function as ``responses`` has it, its type aside."""
    refuse_other_kinds(tool, place, needed=True)
    return {name: value for name, value in tool.items() if name not in ("type", "strict")}


def refuse_other_kinds(tool: Any, place: int, *, needed: bool = False) -> None:
    """Raise :class:`BadParameter` for a tool that is no function. ``needed``: it must say that it is one."""
    kind = tool.get("type", None if needed else "function") if isinstance(tool, Mapping) else None
    if kind != "function" and (needed or isinstance(tool, Mapping)):
        raise BadParameter(f"/tools/{place}", f"'/tools/{place}' must be a function: roost has no tools of its own")


def as_list(value: Any, path: str) -> list[Any]:
    """``value``, which must be a list."""
    if not isinstance(value, list):
        raise BadParameter(path, f"'{path}' must be a list")
    return value


def _name(tool: Any) -> Any:
    inner = tool.get("function", tool) if isinstance(tool, Mapping) else {}
    return inner.get("name") if isinstance(inner, Mapping) else None
