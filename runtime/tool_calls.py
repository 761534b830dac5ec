"""Tools in a chat: how they are told to the model, and how its calls are found in what it writes.

A template that has a place for tools gets them, and its calls are read in the template's own dialect. For one that
hasn't, tools and calls go in words: the prompt of Hermes 2 Pro (NousResearch), which many models know, in the first
message, each call between ``<tool_call>`` and ``</tool_call>``, each result between ``<tool_response>`` marks.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.config import Tool
from runtime.grammar import Rule, json_rule

Message = Mapping[str, Any]


def _new_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A whole call. ``arguments``: a JSON object as text."""

    name: str
    arguments: str
    id: str = field(default_factory=_new_id, compare=False)

    @classmethod
    def of(cls, value: Any, names: frozenset[str]) -> ToolCall | None:
        """The call that ``value`` is, if it is one of a tool in ``names``, in whichever spelling."""
        if not isinstance(value, Mapping):
            return None
        inner = value["function"] if isinstance(value.get("function"), Mapping) else value
        name, given = inner.get("name"), inner.get("arguments", inner.get("parameters"))
        arguments = _object(given)
        if name not in names or arguments is None:
            return None
        return cls(str(name), json.dumps(arguments, ensure_ascii=False))


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a model writes a call: what stands around it, and what it calls the arguments."""

    opening: str
    closing: str
    arguments: str = "arguments"

    def rule(self, tool: Tool, path: str) -> Rule:
        """The rule of a call of ``tool``."""
        before = f'{self.opening}{{"name": {json.dumps(tool.name)}, "{self.arguments}": '
        return json_rule(schema_of(tool), path, of=tool.name).between(before, "}" + self.closing)


_HERMES = Dialect("<tool_call>\n", "\n</tool_call>")
_LLAMA = Dialect("", "", "parameters")
_MISTRAL = Dialect("[", "]")  # its [TOOL_CALLS] is a special token, which leaves no text
_MARKS = ("<tool_call>", "</tool_call>")


def dialect_of(template: str | None) -> Dialect:
    """The dialect of a chat template's source."""
    if template and _MARKS[0] not in template:
        if "[TOOL_CALLS]" in template:
            return _MISTRAL
        if '"parameters"' in template:
            return _LLAMA
    return _HERMES


def schema_of(tool: Tool) -> dict[str, Any]:
    """The JSON Schema of a tool's arguments, which are an object."""
    return {"type": "object", **tool.parameters}


def described(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """``tools`` as chat templates take them."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
        }
        for tool in tools
    ]


def with_parsed_calls(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """``messages`` with every call in one spelling, its arguments an object, as templates expect them."""
    return [_with_parsed_calls(message) for message in messages]


def _with_parsed_calls(message: Message) -> dict[str, Any]:
    plain = {**message, "content": message.get("content") or ""}
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return plain
    told = []
    for call in calls:
        outer = call if isinstance(call, Mapping) else {}
        inner = outer["function"] if isinstance(outer.get("function"), Mapping) else outer
        arguments = _object(inner.get("arguments"))
        function = {"name": str(inner.get("name", "")), "arguments": {} if arguments is None else arguments}
        told.append({"id": str(outer.get("id", "")), "type": "function", "function": function})
    return {**plain, "tool_calls": told}


def in_words(messages: Sequence[Message], tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """``messages`` for a template without a place for tools: calls and results as text, the tools in the first."""
    said = [_in_words(message) for message in messages]
    if tools:
        first = said[0] if said else {"role": "user", "content": ""}
        said[:1] = [{**first, "content": f"{_prompt(tools)}\n\n{first['content']}"}]
    return said


def _in_words(message: Message) -> dict[str, Any]:
    content = str(message["content"])
    if message.get("role") == "tool":
        return {"role": "user", "content": f"<tool_response>\n{content}\n</tool_response>"}
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in message.get("tool_calls") or ()]
    parts = [content] * bool(content) + [f"{_HERMES.opening}{call}{_HERMES.closing}" for call in calls]
    return {"role": message.get("role"), "content": "\n".join(parts)}


def _prompt(tools: Sequence[Tool]) -> str:
    lines = [json.dumps(tool, ensure_ascii=False) for tool in described(tools)]
    return "\n".join(
        [
            "You may call one or more functions to assist with the user query. Here they are:",
            "<tools>",
            *lines,
            "</tools>",
            "For each call return a JSON object with the function's name and arguments between these marks:",
            '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>',
        ]
    )


class CallReader:
    """Text goes in as it is generated; words come out, and what may be calls is held until the end.

    A call stands between marks, or is the whole answer: an object or a list of objects. What turns out to be none is
    text after all.
    """

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._names = frozenset(tool.name for tool in tools)
        self._held = ""
        self._shown = False

    def feed(self, text: str) -> str:
        """The text that can't belong to a call."""
        self._held += text
        started = self._held.lstrip()
        if not self._shown and (not started or started[0] in "{["):
            return ""
        mark = self._held.find(_MARKS[0])
        return self._release(mark if mark >= 0 else len(self._held) - self._beginning())

    def finish(self) -> tuple[str, list[ToolCall]]:
        """The rest of the text and the calls, once nothing follows."""
        held, self._held = self._held, ""
        calls = self._calls(held)
        return ("", calls) if calls else (held, [])

    def _calls(self, text: str) -> list[ToolCall]:
        """The calls in ``text``, or none if any part of it isn't one."""
        start, end = _MARKS
        found: list[Any] = []
        for piece in text.split(start) if start in text else [text]:
            if not (inner := piece.partition(end)[0].strip()):  # what a model says after a call is made up
                continue
            try:
                value = json.loads(inner)
            except (ValueError, RecursionError):
                return []
            found += value if isinstance(value, list) else [value]
        calls = [ToolCall.of(value, self._names) for value in found]
        return [call for call in calls if call is not None] if None not in calls else []

    def _beginning(self) -> int:
        """How many characters at the end of the held text begin a mark."""
        mark = _MARKS[0]
        sizes = range(min(len(mark) - 1, len(self._held)), 0, -1)
        return next((size for size in sizes if mark.startswith(self._held[-size:])), 0)

    def _release(self, end: int) -> str:
        shown, self._held = self._held[:end], self._held[end:]
        self._shown = self._shown or bool(shown)
        return shown


def _object(value: Any) -> dict[str, Any] | None:
    """A JSON object, given as one or as text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return dict(value) if isinstance(value, Mapping) else None
