"""A card's schemas, compiled on first use: what they accept, defaults, and refusals in the platform's words.

The verdict is jsonschema-rs's, with one habit of the platform's: an empty list counts as absent (the published
``@cloudflare/cabidela`` 0.2.4 does so). Where published schemas, read strictly, refuse what the platform takes, they
are read as :func:`practical` says. Knows nothing of cards or tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jsonschema_rs

from catalog.wording import describe, pointer, type_name

Json = dict[str, Any]


class InvalidInput(ValueError):
    """Inputs that a card's schema refuses. ``path`` is a JSON pointer (``/`` for the whole)."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(reason)
        self.path = path


class InputSchema:
    """One input schema. ``names``: the inputs that any of its variants knows."""

    def __init__(self, schema: Json) -> None:
        self.schema = schema
        self.names = frozenset(name for variant in leaves(schema) for name in variant.get("properties") or ())

    @cached_property
    def _practical(self) -> Json:
        return practical(self.schema)

    @cached_property
    def _validator(self) -> jsonschema_rs.Validator:
        return jsonschema_rs.validator_for(self._practical)

    @cached_property
    def _variants(self) -> list[_Variant]:
        return [_Variant(variant) for variant in leaves(self._practical)]

    def validate(self, inputs: object) -> Json:
        """A new dict: ``inputs`` without nulls and unknown names, with the matching variant's defaults.

        Clients send ``"stop": null`` and names of other APIs; the platform ignores both. A name of another variant
        stays (``raw`` beside messages means something), unless that variant requires it. Raises
        :class:`InvalidInput` with the path and the bound that was broken.
        """
        if not isinstance(inputs, Mapping):
            raise InvalidInput("/", f"Type mismatch of '/', '{type_name(inputs)}' not in 'object'")
        given = {str(name): value for name, value in inputs.items() if not _is_absent(value)}
        try:
            self._validator.validate(given)
        except jsonschema_rs.ValidationError:
            raise self._refusal(given) from None
        except ValueError as error:  # what JSON can't express: NaN, bytes, an endless nesting
            raise InvalidInput("/", f"the inputs are not JSON: {error}") from None
        matching = next((v for v in self._variants if v.accepts(given)), None)
        if matching is None:
            return given
        foreign = {name for variant in self._variants for name in variant.required} - matching.properties.keys()
        kept = {name: value for name, value in given.items() if name in self.names - foreign or not self.names}
        return {**matching.defaults, **kept}

    def _refusal(self, given: Json) -> InvalidInput:
        error = next(iter(self._validator.iter_errors(given)))
        path = pointer(error.instance_path)
        return InvalidInput(path, describe(error, self._practical))


class OutputSchema:
    """One output schema. Published variants overlap, at every depth, so an answer need only be of any of them."""

    def __init__(self, schema: Json) -> None:
        self.variants = leaves(schema)

    @cached_property
    def _validators(self) -> list[jsonschema_rs.Validator]:
        return [jsonschema_rs.validator_for(_any_of(variant)) for variant in self.variants]

    def accepts(self, answer: object) -> bool:
        """Whether ``answer`` is what the schema promises."""
        return any(validator.is_valid(answer) for validator in self._validators)


class _Variant:
    """One branch of a schema's oneOf or anyOf (the whole schema where there is neither)."""

    def __init__(self, schema: Json) -> None:
        self.properties: Json = schema.get("properties") or {}
        self.required: list[str] = schema.get("required") or []
        self.defaults = {
            name: spec["default"]
            for name, spec in self.properties.items()
            if isinstance(spec, dict) and "default" in spec
        }
        self.accepts = jsonschema_rs.validator_for(schema).is_valid


def _is_absent(value: object) -> bool:
    return value is None or (isinstance(value, list | tuple) and not value)


def compile_error(schema: Json) -> str | None:
    """Why ``schema`` can't be compiled, in one line, or ``None`` if it can."""
    try:
        jsonschema_rs.validator_for(schema)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        return " ".join(str(error).splitlines()[0].split())
    return None


def leaves(schema: Json) -> list[Json]:
    """The variants of a schema, those within variants in their place; the schema itself if it has none.

    A variant without a type has its parent's. Each shares its properties with ``schema``.
    """
    branches = schema.get("oneOf") or schema.get("anyOf")
    if not branches or "properties" in schema:
        return [schema]
    inherited = {"type": schema["type"]} if "type" in schema else {}
    return [leaf for branch in branches if isinstance(branch, dict) for leaf in leaves({**inherited, **branch})]


def practical(schema: Json) -> Json:
    """``schema`` as it meets real traffic.

    A variant that requires nothing beside others that do (``requests`` of llama-3.3, kimi, glm and gemma-4) would match
    everything, so that ``oneOf`` refuses every request and ``anyOf`` none: it matches where one of its own names is
    given. ``tools`` may be any list of objects: published schemas want a description of every parameter, which OpenAI's
    own examples lack; whoever offers the tools checks them.
    """
    loose = {**schema}
    if isinstance(properties := schema.get("properties"), dict) and "tools" in properties:
        loose["properties"] = {**properties, "tools": {"type": "array", "items": {"type": "object"}}}
    for key in ("oneOf", "anyOf"):
        if branches := schema.get(key):
            loose[key] = _distinct([practical(branch) if isinstance(branch, dict) else branch for branch in branches])
    return loose


def _any_of(node: Any) -> Any:
    """A schema with ``anyOf`` in every place of ``oneOf``."""
    if isinstance(node, list):
        return [_any_of(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        "anyOf" if key == "oneOf" and isinstance(value, list) else key: _any_of(value) for key, value in node.items()
    }


def _distinct(branches: list[Any]) -> list[Any]:
    variants = [branch for branch in branches if isinstance(branch, dict)]
    if not any(leaf.get("required") for variant in variants for leaf in leaves(variant)):
        return branches
    return [_demanding(branch) if isinstance(branch, dict) else branch for branch in branches]


def _demanding(branch: Json) -> Json:
    """``branch``, which requires one of its names unless it requires something."""
    names = branch.get("properties")
    if not isinstance(names, dict) or not names or branch.keys() & {"required", "anyOf", "not"}:
        return branch
    if len(names) == 1:
        return {**branch, "required": list(names)}
    return {**branch, "anyOf": [{"required": [name]} for name in names]}
