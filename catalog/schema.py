"""A card's input schema, compiled once: what it accepts, its defaults, and refusals in the platform's words.

The verdict is jsonschema-rs's. The wording of a refusal is the platform's, whose validator stops at the first
fault of each variant and counts an empty list as absent (observed on live answers and on the published
``@cloudflare/cabidela`` package, 0.2.4). Knows nothing of cards or tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jsonschema_rs

Json = dict[str, Any]
_ABSENT: tuple[object, ...] = (None, [])


class InvalidInput(ValueError):
    """Inputs that a card's schema refuses. ``path`` is a JSON pointer (``/`` for the whole)."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(reason)
        self.path = path


class InputSchema:
    """One compiled input schema."""

    def __init__(self, schema: Json) -> None:
        self.schema = schema
        self._validator = jsonschema_rs.validator_for(schema)
        self._variants = [_Variant(schema, variant) for variant in _variants(schema)]
        self._known = frozenset(name for variant in self._variants for name in variant.properties)

    def validate(self, inputs: object) -> Json:
        """A new dict: ``inputs`` without nulls and unknown names, with the matching variant's defaults.

        Clients send ``"stop": null`` and names of other APIs; the platform ignores both. Raises
        :class:`InvalidInput` with the path and the bound that was broken.
        """
        if not isinstance(inputs, Mapping):
            raise InvalidInput("/", f"Type mismatch of '/', '{_type_name(inputs)}' not in 'object'")
        given = {str(name): value for name, value in inputs.items() if value not in _ABSENT}
        try:
            self._validator.validate(given)
        except jsonschema_rs.ValidationError:
            raise self._refusal(given) from None
        except ValueError as error:  # what JSON can't express: NaN, bytes, an endless nesting
            raise InvalidInput("/", f"the inputs are not JSON: {error}") from None
        matching = next((v for v in self._variants if v.accepts(given)), None)
        defaults = matching.defaults if matching else {}
        kept = {name: value for name, value in given.items() if name in self._known or not self._known}
        return {**defaults, **kept}

    def _refusal(self, given: Json) -> InvalidInput:
        error = next(iter(self._validator.iter_errors(given)))
        path = _pointer(error.instance_path)
        return InvalidInput(path, _describe(error, self.schema))


class _Variant:
    """One branch of a schema's oneOf or anyOf (the whole schema where there is neither)."""

    def __init__(self, parent: Json, schema: Json) -> None:
        merged = {"type": parent["type"], **schema} if "type" in parent else schema
        self.properties: Json = schema.get("properties") or {}
        self.defaults = {
            name: spec["default"]
            for name, spec in self.properties.items()
            if isinstance(spec, dict) and "default" in spec
        }
        self.accepts = jsonschema_rs.validator_for(merged).is_valid


def compile_error(schema: Json) -> str | None:
    """Why ``schema`` can't be compiled, in one line, or ``None`` if it can."""
    try:
        jsonschema_rs.validator_for(schema)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        return " ".join(str(error).splitlines()[0].split())
    return None


def _variants(schema: Json) -> list[Json]:
    branches = schema.get("oneOf") or schema.get("anyOf") or [schema]
    return [branch for branch in branches if isinstance(branch, dict)]


def _describe(error: jsonschema_rs.ValidationError, schema: Json) -> str:
    """One fault as the platform words it."""
    kind, path = error.kind, _pointer(error.instance_path)
    match kind.name:
        case "oneOf" | "anyOf" if error.instance_path:
            return _describe_nested_choice(error, schema)
        case "oneOf" if isinstance(kind, jsonschema_rs.ValidationErrorKind.OneOfMultipleValid):
            return f"oneOf at '{path}' not met, {len(kind.context) or 2} matches"
        case "oneOf":
            return f"oneOf at '{path}' not met, 0 matches: {_first_of_each(kind.context, schema)}"
        case "anyOf":
            return f"anyOf at '{path}' not met: {_first_of_each(kind.context, schema)}"
        case "required":
            return f"required properties at '{path}' are '{_required(error, schema)}'"
        case "type":
            expected = _at(schema, error.schema_path)
            wanted = expected if isinstance(expected, str) else ",".join(map(str, expected or []))
            return f"Type mismatch of '{path}', '{_type_name(error.instance)}' not in '{wanted}'"
        case "additionalProperties":
            names = ", ".join(f"/{name}" for name in kind.unexpected)
            return f"Additional or unevaluated properties '{names}' at '{path}' not allowed"
    return _describe_bound(error, path)


_BOUNDS = {
    "maximum": "'{path}' must be <= {limit}",
    "minimum": "'{path}' must be >= {limit}",
    "exclusiveMaximum": "'{path}' must be < {limit}",
    "exclusiveMinimum": "'{path}' must be > {limit}",
    "multipleOf": "'{path}' must be multiple of {limit}",
    "maxLength": "Length of '{path}' must be <= {limit}",
    "minLength": "Length of '{path}' must be >= {limit}",
    "maxItems": "Length of '{path}' must be <= {limit}",
    "minItems": "Length of '{path}' must be >= {limit}",
}


def _describe_bound(error: jsonschema_rs.ValidationError, path: str) -> str:
    template = _BOUNDS.get(error.kind.name)
    if template is None:
        return f"'{path}' {error.message}"
    limit = getattr(error.kind, "limit", getattr(error.kind, "multiple_of", None))
    return template.format(path=path, limit=f"{limit:g}" if isinstance(limit, float) else limit)


def _describe_nested_choice(error: jsonschema_rs.ValidationError, schema: Json) -> str:
    """Within a document the platform reports a failed choice as the parent's missing property."""
    parent = _at(schema, error.schema_path[:-3])
    name = error.instance_path[-1]
    if isinstance(parent, dict) and name in parent.get("required", ()):
        return f"required properties at '{_pointer(error.instance_path[:-1])}' are '{','.join(parent['required'])}'"
    return f"{error.kind.name} at '{_pointer(error.instance_path)}' not met"


def _first_of_each(context: Iterable[Iterable[jsonschema_rs.ValidationError]], schema: Json) -> str:
    """The first fault of every variant (a property's before a missing one's), each said once."""
    firsts = [min(faults, key=_is_missing, default=None) for faults in map(list, context)]
    return ", ".join(dict.fromkeys(_describe(fault, schema) for fault in firsts if fault is not None))


def _is_missing(error: jsonschema_rs.ValidationError) -> bool:
    return error.kind.name == "required" and not error.instance_path


def _required(error: jsonschema_rs.ValidationError, schema: Json) -> str:
    names = _at(schema, error.schema_path)
    return ",".join(names) if isinstance(names, list) else error.kind.property


def _at(schema: Any, path: Iterable[str | int]) -> Any:
    for part in path:
        try:
            schema = schema[part]
        except (KeyError, IndexError, TypeError):
            return None
    return schema


def _pointer(path: Iterable[str | int]) -> str:
    return "/" + "/".join(str(part) for part in path)


def _type_name(value: object) -> str:
    match value:
        case bool():
            return "boolean"
        case None:
            return "null"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list() | tuple():
            return "array"
    return "object" if isinstance(value, Mapping) else type(value).__name__
