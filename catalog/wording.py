"""A schema's refusal in the platform's words, such as ``'/temperature' must be <= 5``.

The platform's validator stops at the first fault of each variant (seen in live answers and in the published
``@cloudflare/cabidela`` 0.2.4, whose forms these are); the faults themselves come from jsonschema-rs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jsonschema_rs import ValidationError
from jsonschema_rs import ValidationErrorKind as Kind

Json = dict[str, Any]


def describe(error: ValidationError, schema: Json) -> str:
    """One fault found by ``schema``, as the platform words it."""
    path = pointer(error.instance_path)
    match error.kind:
        case Kind.OneOfNotValid() | Kind.OneOfMultipleValid() | Kind.AnyOf() if error.instance_path:
            return _describe_nested_choice(error, schema)
        case Kind.OneOfMultipleValid(context):
            return f"oneOf at '{path}' not met, {sum(not faults for faults in context)} matches"
        case Kind.OneOfNotValid(context):
            return f"oneOf at '{path}' not met, 0 matches: {_first_of_each(context, schema)}"
        case Kind.AnyOf(context):
            return f"anyOf at '{path}' not met: {_first_of_each(context, schema)}"
        case Kind.Required(missing):
            declared = _at(schema, error.schema_path)
            names = ",".join(declared) if isinstance(declared, list) else missing
            return f"required properties at '{path}' are '{names}'"
        case Kind.Type(expected):
            return f"Type mismatch of '{path}', '{type_name(error.instance)}' not in '{','.join(expected)}'"
        case Kind.AdditionalProperties(unexpected) | Kind.UnevaluatedProperties(unexpected):
            names = ", ".join(f"/{name}" for name in unexpected)
            return f"Additional or unevaluated properties '{names}' at '{path}' not allowed"
        case Kind.Enum(options):
            return f"enum {error.instance} not in {','.join(map(str, options))} at '{path}'"
    return _describe_bound(error.kind, path) or f"'{path}' {error.message}"


def _describe_bound(kind: Kind, path: str) -> str | None:
    match kind:
        case Kind.Maximum(limit):
            return f"'{path}' must be <= {limit}"
        case Kind.Minimum(limit):
            return f"'{path}' must be >= {limit}"
        case Kind.ExclusiveMaximum(limit):
            return f"'{path}' must be < {limit}"
        case Kind.ExclusiveMinimum(limit):
            return f"'{path}' must be > {limit}"
        case Kind.MaxLength(length) | Kind.MaxItems(length):
            return f"Length of '{path}' must be <= {length}"
        case Kind.MinLength(length) | Kind.MinItems(length):
            return f"Length of '{path}' must be >= {length}"
        case Kind.MultipleOf(step):
            return f"'{path}' must be multiple of {step}"
    return None


def pointer(path: Iterable[str | int]) -> str:
    """A path as a JSON pointer; ``/`` for the whole document."""
    return "/" + "/".join(str(part) for part in path)


def type_name(value: object) -> str:
    """The JSON type of a Python value."""
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


def _describe_nested_choice(error: ValidationError, schema: Json) -> str:
    """Within a document the platform reports a failed choice as the parent's missing property."""
    *parents, name = error.instance_path
    parent = _at(schema, error.schema_path[:-3])
    if isinstance(parent, dict) and name in parent.get("required", ()):
        return f"required properties at '{pointer(parents)}' are '{','.join(parent['required'])}'"
    return f"{error.kind.name} at '{pointer(error.instance_path)}' not met"


def _first_of_each(context: Iterable[Iterable[ValidationError]], schema: Json) -> str:
    """The first fault of every variant (a property's before a missing one's), each said once."""
    firsts = [min(faults, key=_is_missing, default=None) for faults in map(list, context)]
    return ", ".join(dict.fromkeys(describe(fault, schema) for fault in firsts if fault is not None))


def _is_missing(error: ValidationError) -> bool:
    return isinstance(error.kind, Kind.Required) and not error.instance_path


def _at(schema: Any, path: Iterable[str | int]) -> Any:
    for part in path:
        try:
            schema = schema[part]
        except (KeyError, IndexError, TypeError):
            return None
    return schema
