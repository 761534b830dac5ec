"""Which shape an answer has, by the output schema of the card: models of one task differ."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from catalog.card import ModelCard
from catalog.schema import leaves

Json = dict[str, Any]


class Shape(StrEnum):
    """The shapes that answers of text generation come in."""

    NATIVE = "native"
    FUNCTIONS = "functions"
    """The native one, with tool calls in OpenAI's nesting (llama-4-scout)."""
    CHAT = "chat.completion"
    TEXT = "text_completion"
    RESPONSE = "response"


def shape_of(card: ModelCard, inputs: object) -> Shape:
    """The shape in which ``card`` promises the answer to ``inputs``; native where it says nothing."""
    given = inputs if isinstance(inputs, Mapping) else {}
    promised = _promised(card.output_schema or {})
    if given.get("input") is not None and given.get("messages") is None and given.get("prompt") is None:
        wanted = [Shape.RESPONSE, Shape.CHAT]
    elif given.get("messages") is not None:
        wanted = [Shape.CHAT]
    else:
        wanted = [Shape.TEXT]
    native = [Shape.NATIVE, Shape.FUNCTIONS]
    return next((shape for shape in [*wanted, *native, Shape.CHAT] if shape in promised), Shape.NATIVE)


def _promised(schema: Json) -> set[Shape]:
    found = set()
    for variant in leaves(schema):
        names = variant.get("properties")
        if not isinstance(names, dict):
            continue
        if "choices" in names:
            found.add(Shape.CHAT if "message" in _names(names["choices"]) else Shape.TEXT)
        elif "output" in names:
            found.add(Shape.RESPONSE)
        elif "response" in names:
            found.add(Shape.FUNCTIONS if "function" in _names(names.get("tool_calls")) else Shape.NATIVE)
    return found


def _names(listed: Any) -> set[str]:
    """The properties of a list's items, whatever their variant."""
    items = listed.get("items") if isinstance(listed, dict) else None
    return (
        {name for leaf in leaves(items) for name in leaf.get("properties") or ()} if isinstance(items, dict) else set()
    )
