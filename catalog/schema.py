"""A card's input schema, compiled once: what it accepts, its defaults, and refusals in the platform's words.

The verdict is jsonschema-rs's, with one habit of the platform's: an empty list counts as absent (the published
``@cloudflare/cabidela`` 0.2.4 does so). Knows nothing of cards or tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    """One compiled input schema."""

    def __init__(self, schema: Json) -> None:
        self.schema = schema
        self._validator = jsonschema_rs.validator_for(schema)
        self._variants = [_Variant(schema, variant) for variant in _variants(schema)]
        self._known = frozenset(name for variant in self._variants for name in variant.properties)

    @property
    def names(self) -> frozenset[str]:
        """Every input that one of the variants knows."""
        return self._known

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
        kept = {name: value for name, value in given.items() if name in self._known - foreign or not self._known}
        return {**matching.defaults, **kept}

    def _refusal(self, given: Json) -> InvalidInput:
        error = next(iter(self._validator.iter_errors(given)))
        path = pointer(error.instance_path)
        return InvalidInput(path, describe(error, self.schema))


class _Variant:
    """One branch of a schema's oneOf or anyOf (the whole schema where there is neither)."""

    def __init__(self, parent: Json, schema: Json) -> None:
        merged = {"type": parent["type"], **schema} if "type" in parent else schema
        self.properties: Json = schema.get("properties") or {}
        self.required: list[str] = schema.get("required") or []
        self.defaults = {
            name: spec["default"]
            for name, spec in self.properties.items()
            if isinstance(spec, dict) and "default" in spec
        }
        self.accepts = jsonschema_rs.validator_for(merged).is_valid


def _is_absent(value: object) -> bool:
    return value is None or (isinstance(value, list | tuple) and not value)


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
