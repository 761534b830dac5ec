"""A JSON Schema as a tree that a person can read: names, types, what is required, ranges, defaults, variants.

Cards come from outside: anything may stand where a schema should, and nothing is trusted to end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

_DEEPEST = 12
_LONGEST = 200  # characters of a default or an example
Node: TypeAlias = dict[str, Any]
Schema: TypeAlias = Mapping[str, Any]


def tree(schema: object) -> Node | None:
    """The schema's root, ``None`` where there is no schema. A node has its ``children`` and ``variants``, as nodes."""
    return _node("", schema, required=False, depth=0) if isinstance(schema, Mapping) and schema else None


def variants(schema: Schema, depth: int = 0) -> list[Schema]:
    """The branches of a schema, those within branches in their place; the whole where it has none."""
    found = schema.get("oneOf") or schema.get("anyOf")
    branches = [branch for branch in found if isinstance(branch, Mapping)] if isinstance(found, list) else []
    if not branches or depth > _DEEPEST:
        return [schema]
    return [leaf for branch in branches for leaf in (variants(branch, depth + 1) if _only_varies(branch) else [branch])]


def _only_varies(schema: Schema) -> bool:
    return not properties(schema) and not isinstance(schema.get("title"), str)


def without_null(schema: Schema) -> Schema:
    """A schema that may be null as what it is otherwise, where that is one thing: a null is as good as absent."""
    kinds = schema.get("type")
    if isinstance(kinds, list) and len(real := [kind for kind in kinds if kind != "null"]) == 1:
        return {**schema, "type": real[0]}
    branches = variants(schema)
    real = [branch for branch in branches if branch.get("type") != "null"]
    if len(real) == 1 and len(branches) > 1:
        own = {name: value for name, value in schema.items() if name not in ("anyOf", "oneOf")}
        return without_null({**real[0], **own})
    return schema


def required_names(schema: Schema) -> list[str]:
    """What a schema requires; a ``required`` that is no list of names requires nothing."""
    names = schema.get("required")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def properties(schema: Schema) -> dict[str, Any]:
    """A schema's named properties."""
    found = schema.get("properties")
    return {str(name): value for name, value in found.items()} if isinstance(found, Mapping) else {}


def _node(name: str, schema: object, *, required: bool, depth: int) -> Node:
    given: Schema = without_null(schema) if isinstance(schema, Mapping) else {}
    node: Node = {
        "name": name,
        "type": type_of(given),
        "required": required,
        "facts": list(_facts(given)),
        "description": str(given.get("description") or given.get("title") or "").strip(),
        "children": [],
        "variants": [],
    }
    if depth < _DEEPEST:
        node["children"] = list(_children(given, depth + 1))
        branches = [branch for branch in variants(given) if branch is not given]
        node["variants"] = [_variant(branch, place, depth + 1) for place, branch in enumerate(branches, 1)]
    return node


def _children(schema: Schema, depth: int) -> Iterator[Node]:
    needed = required_names(schema)
    for name, value in properties(schema).items():
        yield _node(name, value, required=name in needed, depth=depth)
    if isinstance(items := schema.get("items"), Mapping):
        yield _node("each item", items, required=False, depth=depth)
    if isinstance(extra := schema.get("additionalProperties"), Mapping) and extra:
        yield _node("any other name", extra, required=False, depth=depth)


def _variant(schema: Schema, place: int, depth: int) -> Node:
    return {**_node("", schema, required=False, depth=depth), "name": variant_title(schema, place)}


def variant_title(schema: Schema, place: int) -> str:
    """What to call a branch: its own title, what it requires or what it is."""
    if isinstance(title := schema.get("title"), str) and title.strip():
        return title.strip().replace("_", " ")
    if named := required_names(schema) or list(properties(schema))[:2]:
        return f"with {' and '.join(named)}"
    return str(schema.get("contentType") or f"variant {place}")


def type_of(schema: Schema) -> str:
    """A schema's type in words: ``string``, ``integer or null``, ``array of strings``."""
    kind = schema.get("type")
    if isinstance(kind, list):
        return " or ".join(map(str, kind))
    if kind == "array" and isinstance(items := schema.get("items"), Mapping) and isinstance(items.get("type"), str):
        return f"array of {items['type']}s"
    if kind is None:
        return "object" if properties(schema) else ""
    return str(kind)


def _facts(schema: Schema) -> Iterator[str]:
    """The bounds, a few words each."""
    yield from _between(schema, "minimum", "maximum", "")
    yield from _between(schema, "exclusiveMinimum", "exclusiveMaximum", " (exclusive)")
    yield from _between(schema, "minLength", "maxLength", " characters")
    yield from _between(schema, "minItems", "maxItems", " items")
    for name, words in (("multipleOf", "a multiple of"), ("pattern", "matches"), ("format", "format"), ("const", "is")):
        if name in schema:
            yield f"{words} {short(schema[name])}"
    if isinstance(choices := schema.get("enum"), list):
        yield "one of " + ", ".join(map(short, choices))
    if "default" in schema:
        yield f"default {short(schema['default'])}"
    if kind := schema.get("contentType"):
        yield str(kind)


def _between(schema: Schema, low: str, high: str, unit: str) -> Iterator[str]:
    least, most = schema.get(low), schema.get(high)
    if least is not None and most is not None:
        yield f"{short(least)} to {short(most)}{unit}"
    elif least is not None:
        yield f"at least {short(least)}{unit}"
    elif most is not None:
        yield f"at most {short(most)}{unit}"


def short(value: object) -> str:
    """A value as JSON, text without its quotes, cut where it is long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
