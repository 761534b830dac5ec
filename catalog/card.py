"""What one model's card says: its identity, its properties, and the two JSON Schemas it declares.

A card comes as markdown with YAML front matter, as bare YAML, or as JSON (the docs' form since 2025).
This module reads all three; it knows nothing of engines, weights or HTTP.
"""

from __future__ import annotations

import datetime
import json
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from catalog.oddities import oddities_of
from catalog.schema import InputSchema, OutputSchema, compile_error

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEEPEST = 100
Json = dict[str, Any]
Source = Literal[1, 2]


class CardError(ValueError):
    """A file that can't be read as a card; the message names the file and what is wrong in it."""


class Task(BaseModel):
    """The task a model performs, as Cloudflare lists it."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    description: str = ""

    @property
    def type(self) -> str:
        """The task's name as a slug: ``text-generation``."""
        return self.name.lower().replace(" ", "-")


class Price(BaseModel):
    """One line of a price property: so much of ``currency`` per ``unit``."""

    model_config = ConfigDict(frozen=True)

    unit: str
    price: float
    currency: str


class Property(BaseModel):
    """A named fact about a model. Every value is a string, except a price list."""

    model_config = ConfigDict(frozen=True)

    property_id: str
    value: str | tuple[Price, ...]


class Limits(BaseModel):
    """The numeric properties of a card, typed; ``None`` where the card doesn't say. All are tokens."""

    model_config = ConfigDict(frozen=True)

    context_window: int | None = None
    max_input_length: int | None = None
    max_total_tokens: int | None = None
    max_batch_prefill_tokens: int | None = None
    max_input_tokens: int | None = None
    output_dimensions: int | None = None

    @property
    def total(self) -> int | None:
        """The most tokens of a prompt and its answer together."""
        return self.max_total_tokens or self.context_window


class ModelCard(BaseModel):
    """A model as the catalogue knows it."""

    model_config = ConfigDict(frozen=True, ignored_types=(cached_property,))

    id: str
    source: Source
    name: str = Field(pattern=r"^@[a-z]+/[^/\s]+/[^/\s]+$")
    description: str
    task: Task
    tags: tuple[str, ...] = ()
    properties: tuple[Property, ...] = ()
    created_at: str | None = None
    deprecated: bool = False
    input_schema: Json | None = None
    output_schema: Json | None = None

    @field_validator("created_at", mode="before")
    @classmethod
    def _as_text(cls, moment: object) -> object:
        """YAML reads an unquoted time as one; cards give it as text."""
        return str(moment) if isinstance(moment, datetime.date) else moment

    @field_validator("description")
    @classmethod
    def _tidy(cls, text: str) -> str:
        return text.strip()

    @property
    def age(self) -> tuple[int, str]:
        """A key that sorts cards of one model, the newest first: cards have had a date since 2025."""
        date = self.created_at or ""
        return (0 if date else 1, "".join(chr(0x10FFFF - ord(letter)) for letter in date))

    @property
    def task_type(self) -> str:
        """The task's slug; in every card of the older form it equals the card's own ``task_type``."""
        return self.task.type

    @property
    def display_name(self) -> str:
        """The last segment of the name: ``starling-lm-7b-beta``."""
        return self.name.rsplit("/", 1)[-1]

    @property
    def author(self) -> str:
        """The middle segment of the name: ``nexusflow``."""
        return self.name.split("/")[1]

    def text_of(self, property_id: str) -> str | None:
        """The text of a property, or ``None`` where the card lacks it (price lists have no text)."""
        for entry in self.properties:
            if entry.property_id == property_id and isinstance(entry.value, str):
                return entry.value
        return None

    @property
    def planned_deprecation_date(self) -> str | None:
        """The day on which the platform means to retire the model, as its card has it."""
        return self.text_of("planned_deprecation_date")

    @property
    def calls_functions(self) -> bool:
        """Whether the card promises function calling."""
        return self.text_of("function_calling") == "true"

    @property
    def beta(self) -> bool:
        """Whether the card calls the model beta; a card that says nothing is generally available."""
        return self.text_of("beta") == "true"

    @property
    def takes_lora(self) -> bool:
        """Whether requests may name a LoRA: the card's property says so, or its input schema has the field."""
        return self.text_of("lora") == "true" or "lora" in self.inputs.names

    @cached_property
    def limits(self) -> Limits:
        """The properties that are numbers, as numbers; one that isn't a number counts as absent."""
        stated = {name: self.text_of(name) for name in Limits.model_fields}
        return Limits(**{name: int(text) for name, text in stated.items() if text and text.isdecimal()})

    @cached_property
    def inputs(self) -> InputSchema:
        """The compiled input schema. A card without one, or with one that can't compile, accepts anything."""
        usable = self.input_schema is not None and compile_error(self.input_schema) is None
        return InputSchema(self.input_schema if usable and self.input_schema else {})

    @cached_property
    def outputs(self) -> OutputSchema | None:
        """The compiled output schema; ``None`` where the card has none that compiles."""
        usable = self.output_schema and compile_error(self.output_schema) is None
        return OutputSchema(self.output_schema) if usable and self.output_schema else None

    @cached_property
    def anomalies(self) -> tuple[str, ...]:
        """What is wrong with this card, a sentence each; empty for most."""
        found = []
        for side, schema in (("input", self.input_schema), ("output", self.output_schema)):
            if schema is None:
                found.append(f"no {side} schema")
            elif error := compile_error(schema):
                found.append(f"the {side} schema doesn't compile: {error}")
        if (self.source == 1) != self.name.startswith("@cf/"):
            found.append(f"source {self.source} doesn't fit the name {self.name}")
        return tuple(found)

    @property
    def oddities(self) -> tuple[str, ...]:
        """What a reader of this card may stumble over though it works, a sentence each."""
        return tuple(oddities_of(self))

    def validate_inputs(self, inputs: object) -> Json:
        """``inputs`` checked against the card's schema, defaults filled in; raises :class:`InvalidInput`."""
        return self.inputs.validate(inputs)


def load_card(path: Path) -> ModelCard:
    """The card in ``path`` (``.md``, ``.yaml``, ``.yml`` or ``.json``); :class:`CardError` if it isn't one."""
    try:
        return parse_card(path.read_text(encoding="utf-8"), path.suffix)
    except (CardError, UnicodeDecodeError, OSError) as error:
        raise CardError(f"{path.name}: {error}") from error


def parse_card(text: str, suffix: str = ".md") -> ModelCard:
    """The card that ``text`` holds, read as what ``suffix`` says it is."""
    document = _json(text) if suffix == ".json" else _yaml(_front_matter(text) if suffix == ".md" else text)
    if not isinstance(document, dict):
        raise CardError("a card is a mapping of names to values")
    try:
        return ModelCard.model_validate(_fields(document))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CardError(f"{where}: {first['msg']}") from error


def _front_matter(text: str) -> str:
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != "---":
        raise CardError("no front matter: the first line must be ---")
    ends = [number for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---"]
    if not ends:
        raise CardError("the front matter has no closing ---")
    return "\n".join(lines[1 : ends[0]])


def _yaml(text: str) -> Any:
    try:
        _refuse_depth(text)
        return yaml.load(text, Loader=_LOADER)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that isn't one is a ValueError
        raise CardError(f"not YAML: {' '.join(str(error).split())}") from error


def _refuse_depth(text: str) -> None:
    """libyaml's loader overflows the stack, and ends the process, on what is nested without end.

    Aliases of aliases grow without end, too, and no card needs one.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("aliases (*name) are not taken")  # noqa: TRY004  (the caller's word for bad text)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"nested deeper than {_DEEPEST} levels")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CardError(f"not JSON: {error}") from error


def _fields(document: Json) -> Json:
    """The document's facts under the names of :class:`ModelCard`: JSON cards are flat, older ones nested."""
    model = document.get("model", document)
    if not isinstance(model, dict):
        raise CardError("model: must be a mapping")
    schemas = document.get("json_schema", document.get("schema")) or {}
    if not isinstance(schemas, dict):
        raise CardError("the schemas must be a mapping of input and output")
    return {
        **{name: model[name] for name in ModelCard.model_fields if name in model},
        "input_schema": _schema(schemas.get("input")),
        "output_schema": _schema(schemas.get("output")),
    }


def _schema(value: object) -> Json | None:
    """A schema given as an object or, in the older cards, as JSON text within YAML."""
    parsed = _json(value) if isinstance(value, str) and value.strip() else value
    return parsed if isinstance(parsed, dict) else None
