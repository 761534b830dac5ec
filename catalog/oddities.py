"""What is odd about a card whose schemas compile: facts that contradict each other, schemas that say too little."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from catalog.schema import leaves

if TYPE_CHECKING:
    from catalog.card import ModelCard

Json = dict[str, Any]
_KEYWORDS_OF_OTHERS = {"errorMessage": "ajv-errors'", "source": "a merge tool's", "with": "a merge tool's"}
_TOO_LARGE = 2**32


def oddities_of(card: ModelCard) -> Iterator[str]:
    """A sentence for each."""
    yield from _of_properties(card)
    if card.input_schema is not None:
        yield from _of_lora(card)
        yield from _of_input(card.input_schema)
    if card.output_schema is not None:
        yield from _of_output(card.output_schema)


def _of_properties(card: ModelCard) -> Iterator[str]:
    names = [entry.property_id for entry in card.properties]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"the property {name} is there {names.count(name)} times"
    for entry in card.properties:
        if isinstance(entry.value, str) and "\n" in entry.value.strip():
            yield f"the property {entry.property_id} is a document of several lines"
    limits = card.limits
    if limits.max_input_length and limits.context_window and limits.max_input_length > limits.context_window:
        yield "max_input_length is more than context_window"


def _of_lora(card: ModelCard) -> Iterator[str]:
    stated, taken = card.text_of("lora") == "true", "lora" in card.inputs.names
    if taken and not stated:
        yield "the input schema has lora, the properties haven't"
    if stated and not taken:
        yield "the properties have lora, the input schema hasn't"


def _of_input(schema: Json) -> Iterator[str]:
    variants = leaves(schema)
    with_names = [variant for variant in variants if variant.get("properties")]
    if any(variant.get("required") for variant in variants):
        for variant in with_names:
            if not variant.get("required") and "not" not in variant:
                called = variant.get("title") or ", ".join(list(variant["properties"])[:3])
                yield f"the input variant {called} requires nothing, so strictly it matches everything"
    elif with_names:
        yield "the input schema requires nothing"
    for keyword in sorted(_keywords(schema) & _KEYWORDS_OF_OTHERS.keys()):
        yield f"the input schema has {_KEYWORDS_OF_OTHERS[keyword]} keyword {keyword}, which is no JSON Schema"
    if any(_limit(variant, "seed") >= _TOO_LARGE for variant in with_names):
        yield "seed may be more than 32 bits hold"
    if any("max_tokens" in variant["properties"] and not _limit(variant, "max_tokens") for variant in with_names):
        yield "max_tokens has no bound"
    if any(_numbers_as_text(variant["properties"]) for variant in with_names):
        yield "some numbers are asked for as text"


def _of_output(schema: Json) -> Iterator[str]:
    variants = leaves(schema)
    if len(variants) > 1 and any(variant.get("properties") and not variant.get("required") for variant in variants):
        yield "output variants require nothing, so answers match several"
    if not any("contentType" in variant for variant in variants):
        yield "the output schema names no content type"


def _limit(variant: Json, name: str) -> float:
    spec = variant["properties"].get(name)
    limit = spec.get("maximum") if isinstance(spec, dict) else None
    return limit if isinstance(limit, int | float) else 0


def _numbers_as_text(properties: Json) -> bool:
    specs = [spec for spec in properties.values() if isinstance(spec, dict) and spec.get("type") == "string"]
    return any(spec.get("pattern") == "^[0-9]+$" or _is_number(spec.get("default")) for spec in specs)


def _is_number(value: object) -> bool:
    return isinstance(value, str) and value.replace(".", "", 1).isdecimal()


def _keywords(node: object, *, names: bool = False) -> set[str]:
    """The keywords of a schema and those within it; ``names``: the keys of ``node`` are names of properties."""
    if isinstance(node, list):
        return set[str]().union(*map(_keywords, node))
    if not isinstance(node, dict):
        return set()
    inner = (_keywords(value, names=key == "properties" and not names) for key, value in node.items())
    return set[str]().union(() if names else node.keys(), *inner)
