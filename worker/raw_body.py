"""A raw request body as the input that a card means by it: the binding sends such a body without the input's name."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from catalog import InvalidInput, ModelCard

_STREAMED = {"body", "contentType"}


def with_raw_body(card: ModelCard, inputs: Mapping[str, Any], body: bytes, content_type: str) -> dict[str, Any]:
    """``inputs`` with ``body`` under the first name of the card's schema that holds binary data.

    A list of numbers stays one (a byte each); where the schema has ``{body, contentType}``, the body is
    ``{"base64": …}``; elsewhere it is base64 text. Raises :class:`InvalidInput` for a model that takes none.
    """
    for name, spec in _properties(card.input_schema or {}):
        forms = list(_forms(spec))
        if any(form.get("type") == "array" and _numbers(form) for form in forms):
            return {**inputs, name: list(body)}
        text = base64.b64encode(body).decode()
        if any(form.get("properties", {}).keys() >= _STREAMED for form in forms):
            return {**inputs, name: {"body": {"base64": text}, "contentType": content_type}}
        if any(form.get("type") == "string" and form.get("format") == "binary" for form in forms):
            return {**inputs, name: text}
    raise InvalidInput("/", f"{card.name} takes no stream as input: send it as JSON")


def _properties(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for branch in _forms(schema):
        yield from (branch.get("properties") or {}).items()


def _forms(spec: Any) -> Iterator[Mapping[str, Any]]:
    """A schema and its alternatives."""
    if isinstance(spec, Mapping):
        yield spec
        for branch in (*spec.get("oneOf", ()), *spec.get("anyOf", ())):
            yield from _forms(branch)


def _numbers(form: Mapping[str, Any]) -> bool:
    items = form.get("items")
    return isinstance(items, Mapping) and items.get("type") in ("number", "integer")
