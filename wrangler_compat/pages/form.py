"""The playground's form, from a card's input schema: a mode per variant, a field per parameter. Knows no HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from catalog import ModelCard
from catalog.schema import leaves
from wrangler_compat.pages.schema_tree import Schema, properties, required_names, variant_title, variants, without_null

_APART = {"messages", "stream"}
"""Parameters that the page has a place of its own for."""
_LONG_TEXTS = {"prompt", "text", "input_text", "system_prompt", "source_code"}
Kind = Literal["text", "long", "number", "integer", "boolean", "choice", "json", "loose"]
"""``loose``: JSON of a list or an object, and text where it is none."""


@dataclass(frozen=True, slots=True)
class Field:
    """One parameter. ``least``, ``most`` and ``default`` as the schema states them; numbers may leave them open."""

    name: str
    kind: Kind
    required: bool
    description: str = ""
    least: float | int | None = None
    most: float | int | None = None
    longest: int | None = None
    default: Any = None
    choices: tuple[str, ...] = ()

    @property
    def hint(self) -> str:
        """The range in words."""
        if self.least is not None and self.most is not None:
            return f"{self.least} to {self.most}"
        if self.least is not None:
            return f"at least {self.least}"
        if self.most is not None:
            return f"at most {self.most}"
        return f"at most {self.longest:,} characters" if self.longest else ""

    @property
    def default_text(self) -> str:
        """The default as the field shows it."""
        if self.default is None or isinstance(self.default, str):
            return self.default or ""
        return json.dumps(self.default)


@dataclass(frozen=True, slots=True)
class Mode:
    """One variant of the schema. A ``chat`` has messages of several turns beside its fields."""

    name: str
    title: str
    chat: bool
    streams: bool
    fields: tuple[Field, ...]

    @property
    def main(self) -> tuple[Field, ...]:
        """What the variant is about: required texts and values."""
        return tuple(field for field in self.fields if field.required or field.name == "prompt")

    @property
    def parameters(self) -> tuple[Field, ...]:
        """The rest, what is typed as JSON last."""
        rest = [field for field in self.fields if field not in self.main]
        return tuple(sorted(rest, key=lambda field: field.kind in ("json", "loose")))


def modes(card: ModelCard) -> list[Mode]:
    """The variants that a form can be made of; chat first where there is one, for most want that."""
    found: dict[str, Mode] = {}
    for place, schema in enumerate(leaves(card.input_schema or {}), 1):
        if (mode := _mode(schema, place)) is not None:
            found.setdefault(mode.name, mode)
    return sorted(found.values(), key=lambda mode: not mode.chat)


def as_json(mode: Mode) -> dict[str, Any]:
    """The mode as the page and its twin have it: its fields with what a person reads, those it is about first."""
    fields = [
        {**asdict(field), "hint": field.hint, "default_text": field.default_text, "main": field in mode.main}
        for field in (*mode.main, *mode.parameters)
    ]
    return {**asdict(mode), "fields": fields}


def _mode(schema: Schema, place: int) -> Mode | None:
    """``None`` for a variant without parameters: a raw body isn't typed into a form."""
    named, needed = properties(schema), required_names(schema)
    chat = "messages" in named and "prompt" not in needed
    fields = [_field(name, spec, required=name in needed) for name, spec in named.items() if name not in _APART]
    if chat:
        fields = [field for field in fields if field.name != "prompt"]
    if not fields and not chat:
        return None
    name = "chat" if chat else "prompt" if "prompt" in named else f"variant-{place}"
    titles = {"chat": "Chat", "prompt": "Prompt"}
    return Mode(name, titles.get(name, variant_title(schema, place)), chat, "stream" in named, tuple(fields))


def _field(name: str, spec: object, *, required: bool) -> Field:
    given: Mapping[str, Any] = without_null(spec) if isinstance(spec, Mapping) else {}
    return Field(
        name=name,
        kind=_kind(name, given),
        required=required,
        description=str(given.get("description") or "").strip(),
        least=_number(given.get("minimum")),
        most=_number(given.get("maximum")),
        longest=longest if isinstance(longest := given.get("maxLength"), int) else None,
        default=given.get("default"),
        choices=_choices(given),
    )


def _kind(name: str, spec: Mapping[str, Any]) -> Kind:
    if _choices(spec):
        return "choice"
    match spec.get("type"):
        case "number":
            return "number"
        case "integer":
            return "integer"
        case "boolean":
            return "boolean"
        case "string" if spec.get("format") != "binary":
            return "long" if name in _LONG_TEXTS else "text"
        case _:
            return "loose" if any(branch.get("type") == "string" for branch in variants(spec)) else "json"


def _choices(spec: Mapping[str, Any]) -> tuple[str, ...]:
    found = spec.get("enum")
    usable = isinstance(found, list) and all(isinstance(choice, str) for choice in found)
    return tuple(found) if usable and found else ()


def _number(value: object) -> float | int | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
