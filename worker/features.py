"""What text generation takes beside its card's schema: structured output, tools, and messages in every shape.

The platform widened these for all its chat models at once, older cards included (release notes of 2026-02-17), so the
cards' schemas don't all know them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catalog import ModelCard
from worker.errors import JsonModeUnsupported, NotEmulated
from worker.forms.items import read_response

_FEATURES = ("response_format", "tools", "tool_choice")
_BLIND = "roost can't look at pictures or listen yet: send text, or text parts of messages, alone"
_JSON_MODE = ("response_format", "guided_json")


def plain_messages(inputs: object) -> object:
    """``inputs`` whose messages' contents are text: parts of text in one, and nothing beside calls as empty text.

    What has parts of another kind stays as it is, for the card to judge.
    """
    if not isinstance(inputs, Mapping) or not isinstance(inputs.get("messages"), list):
        return inputs
    return {**inputs, "messages": [_plain(message) for message in inputs["messages"]]}


def with_features(
    card: ModelCard, inputs: object, checked: dict[str, Any], extras: Mapping[str, Any], *, json_everywhere: bool
) -> dict[str, Any]:
    """``checked`` with the features that ``inputs`` ask for, and ``extras``, which a door stands for.

    Raises :class:`JsonModeUnsupported` where a schema is asked of a card without JSON mode.
    """
    given = inputs if isinstance(inputs, Mapping) else {}
    wanted = {name: given[name] for name in _FEATURES if given.get(name) is not None}
    if not json_everywhere and not has_json_mode(card) and _wants_schema(wanted):
        raise JsonModeUnsupported
    return {**checked, **wanted, **extras}


def emulated(card: ModelCard, wanted: dict[str, Any], inputs: object) -> dict[str, Any]:
    """``wanted`` as text generation reads it: the items of OpenAI's ``input`` as messages.

    Raises :class:`NotEmulated` for what cards promise and roost can't do: pictures, batches, several answers.
    """
    if wanted.get("requests") is not None:
        raise NotEmulated(f"{card.name} takes batches of requests, which roost doesn't queue: send them one by one")
    if wanted.get("image") is not None:
        raise NotEmulated(_BLIND)
    if wanted.get("n") not in (None, 1):
        raise NotEmulated("'/n' must be 1: one answer is what roost gives")
    if "input" in wanted and "messages" not in wanted and isinstance(inputs, Mapping):
        wanted = {**wanted, **read_response(inputs)}
        wanted["messages"] = [_plain(message) for message in wanted["messages"]]
    for message in wanted.get("messages", ()):
        if isinstance(message, Mapping) and not isinstance(message.get("content"), str | None):
            raise NotEmulated(_BLIND)
    return wanted


def has_json_mode(card: ModelCard) -> bool:
    """Whether the card's input schema knows structured output."""
    return not card.inputs.names.isdisjoint(_JSON_MODE)


def _wants_schema(wanted: Mapping[str, Any]) -> bool:
    """A plain ``json_object`` is let through as the platform does; roost constrains that too."""
    form = wanted.get("response_format")
    return isinstance(form, Mapping) and form.get("type") == "json_schema"


def _plain(message: object) -> object:
    if not isinstance(message, Mapping):
        return message
    content = message.get("content")
    if content is None and message.get("tool_calls"):
        return {**message, "content": ""}
    if isinstance(content, list) and content and all(map(_is_text, content)):
        return {**message, "content": "\n".join(part["text"] for part in content)}
    return message


def _is_text(part: object) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)
