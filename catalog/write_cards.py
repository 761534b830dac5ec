"""Writes the shipped cards from folders of published ones: ``python -m catalog.write_cards FOLDER…``.

What it takes over are facts: names, ids, tasks, properties, prices, schemas. Every sentence is roost's own, from
``words.yaml``; schemas keep no description but those. A model that has several cards gets its newest, widened so that
what users of an older one send is still taken: a bound is the wider of the two, an input that the newer card dropped
stays, and so do the links to its repository and terms (``roost pull`` reads the former). The seed is never written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from catalog.card import ModelCard
from catalog.schema import leaves
from catalog.store import SEED, SHIPPED, read_folder

Json = dict[str, Any]
Words = Mapping[str, Mapping[str, str]]
WORDS = Path(__file__).parent / "words.yaml"
_WIDTH = 115
_KEPT_PROPERTIES = ("info", "terms")
_LOWER, _UPPER = ("minimum", "minLength", "minItems"), ("maximum", "maxLength", "maxItems")
_SPOKEN = ("description", "errorMessage")


def write_cards(folders: Iterable[Path], target: Path = SHIPPED) -> list[Path]:
    """Write one card per model that ``folders`` have, oldest form first, but for the seed; the files written.

    Raises ``KeyError`` for a model or a task without words.
    """
    words: Words = yaml.safe_load(WORDS.read_text(encoding="utf-8"))
    found: dict[str, list[ModelCard]] = {}
    for folder in folders:
        for _, card in read_folder(folder):
            if isinstance(card, ModelCard):
                found.setdefault(card.name, []).append(card)
    written = []
    for name, cards in sorted(found.items()):
        if name != SEED:
            path = target / f"{cards[0].display_name}.md"
            path = path if path not in written else target / f"{cards[0].author}-{path.name}"
            path.write_text(card_text(cards, words), encoding="utf-8")
            written.append(path)
    return written


def card_text(cards: list[ModelCard], words: Words) -> str:
    """The card that speaks for ``cards`` of one model, as markdown with front matter."""
    newest, *older = sorted(cards, key=lambda card: card.age)
    task = newest.task
    lines = [
        "---",
        "model:",
        f"  id: {_quoted(newest.id)}",
        f"  source: {newest.source}",
        f"  name: {_quoted(newest.name)}",
        f"  description: {_quoted(words['models'][newest.name])}",
        "  task:",
        f"    id: {_quoted(task.id)}",
        f"    name: {_quoted(task.name)}",
        f"    description: {_quoted(words['tasks'][task.name])}",
        *([f"  created_at: {_quoted(newest.created_at)}"] if newest.created_at else []),
        f"  tags: {json.dumps(newest.tags)}",
        *_properties(newest, older),
        f"task_type: {_quoted(newest.task_type)}",
        *_schemas(newest, older, words["inputs"]),
        "---",
        "",
    ]
    return "\n".join(lines)


def _properties(newest: ModelCard, older: list[ModelCard]) -> list[str]:
    properties = {entry.property_id: entry.value for card in older for entry in card.properties}
    properties = {name: value for name, value in properties.items() if name in _KEPT_PROPERTIES}
    properties |= {entry.property_id: entry.value for entry in newest.properties}
    lines = ["  properties:" if properties else "  properties: []"]
    for name, value in sorted(properties.items()):
        lines.append(f"    - property_id: {_quoted(name)}")
        if isinstance(value, str):
            lines.append(f"      value: {_quoted(value)}")
        else:
            lines.append("      value:")
            lines += [f"        - {json.dumps(price.model_dump(), ensure_ascii=False)}" for price in value]
    return lines


def _schemas(newest: ModelCard, older: list[ModelCard], inputs: Mapping[str, str]) -> list[str]:
    schema = newest.input_schema or next((card.input_schema for card in older if card.input_schema), None)
    output = newest.output_schema or next((card.output_schema for card in older if card.output_schema), None)
    if schema is None or output is None:
        return ["json_schema:"]
    widened = _widened(_bare(schema), [_bare(card.input_schema) for card in older if card.input_schema])
    return ["json_schema:", "  input: |", *_block(_described(widened, inputs)), "  output: |", *_block(_bare(output))]


def _block(schema: Json) -> list[str]:
    return [f"    {line}" for line in _laid_out(schema).splitlines()]


def _bare(node: Any, *, names: bool = False) -> Any:
    """A schema without sentences; ``names``: the keys of ``node`` are names of properties, not keywords.

    ``required`` among the properties (in flux-2-dev) goes to where it was meant to be.
    """
    if isinstance(node, list):
        return [_bare(item) for item in node]
    if not isinstance(node, dict):
        return node
    if names:
        return {name: _bare(value) for name, value in node.items()}
    spoken = {key for key in _SPOKEN if isinstance(node.get(key), str | dict)}
    bare = {key: _bare(value, names=key == "properties") for key, value in node.items() if key not in spoken}
    misplaced = bare.get("properties", {}).get("required") if isinstance(bare.get("properties"), dict) else None
    if isinstance(misplaced, list):
        bare["properties"].pop("required")
        bare["required"] = misplaced
    return bare


def _widened(newest: Json, older: list[Json]) -> Json:
    """``newest``, whose variants take what the same variants of ``older`` took."""
    for variant in leaves(newest):
        for before in (found for schema in older for found in leaves(schema) if _same(found, variant)):
            for name, spec in before["properties"].items():
                _widen(variant["properties"].setdefault(name, spec), spec)
    return newest


def _same(one: Json, other: Json) -> bool:
    return "properties" in one and "properties" in other and one.get("required") == other.get("required")


def _widen(spec: Json, before: Json) -> None:
    for keys, wider in ((_LOWER, min), (_UPPER, max)):
        for key in keys:
            if key in spec and key not in before:
                del spec[key]
            elif key in spec:
                spec[key] = wider(spec[key], before[key])


def _described(schema: Json, words: Mapping[str, str]) -> Json:
    for variant in leaves(schema):
        for name, spec in variant.get("properties", {}).items():
            if name in words and isinstance(spec, dict):
                spec["description"] = words[name]
    return schema


def _laid_out(value: Any, indent: int = 0, before: int = 0) -> str:
    """``value`` as JSON, behind ``before`` characters of its line: what fits a line is on one."""
    flat = json.dumps(value, ensure_ascii=False)
    if indent + before + len(flat) < _WIDTH or not isinstance(value, dict | list) or not value:
        return flat
    inner, outer = " " * (indent + 2), " " * indent
    if isinstance(value, list):
        return "[\n" + ",\n".join(f"{inner}{_laid_out(item, indent + 2)}" for item in value) + f"\n{outer}]"
    named = ((json.dumps(key, ensure_ascii=False), item) for key, item in value.items())
    items = (f"{inner}{name}: {_laid_out(item, indent + 2, len(name) + 2)}" for name, item in named)
    return "{\n" + ",\n".join(items) + f"\n{outer}}}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


if __name__ == "__main__":
    made = write_cards(map(Path, sys.argv[1:]))
    sys.stdout.write(f"{len(made)} cards\n")
