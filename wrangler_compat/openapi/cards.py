"""A card as an operation: running its model, with its own schemas."""

from __future__ import annotations

import re

from catalog import ModelCard
from catalog.schema import compile_error, leaves
from catalog.shape import Shape, shape_of
from runtime.tasks import TASKS
from wrangler_compat.openapi.operation import RUN_STATUSES, Operation
from wrangler_compat.openapi.shapes import Schema, envelope, ref
from wrangler_compat.pages.schema_tree import properties
from wrangler_compat.pages.snippets import example

_SHAPES = {
    Shape.NATIVE: "TextGenerationResult",
    Shape.FUNCTIONS: "TextGenerationResult",
    Shape.CHAT: "ChatCompletion",
    Shape.TEXT: "Completion",
    Shape.RESPONSE: "Response",
}
_RUN = "/client/v4/accounts/{account}/ai/run"


def run_path(card: ModelCard) -> str:
    """The path at which a model is run."""
    return f"{_RUN}/{card.name}"


def run_operation(card: ModelCard) -> Operation:
    """Running ``card``. One that can't run here has no answer, only refusals, of which 501 says so."""
    runs = card.task.name in TASKS
    return Operation(
        "run-" + re.sub(r"[^A-Za-z0-9]+", "-", card.name).strip("-"),
        card.task.name,
        f"Run {card.display_name}" + ("" if runs else ": not here yet"),
        gives=envelope(_result(card)) if runs else None,
        takes=_inputs(card),
        statuses=RUN_STATUSES,
        streams=runs and _streams(card),
        examples=(example(card),) if runs else (),
    )


def _inputs(card: ModelCard) -> Schema:
    """The card's own schema, or any object where it has none that compiles."""
    schema = card.input_schema
    if not schema or compile_error(schema) is not None:
        return {"type": "object"}
    return schema


def _result(card: ModelCard) -> Schema:
    """What roost answers with: cards promise text where JSON mode gives objects, and don't tell the usage."""
    if card.task.name == "Text Generation":
        shapes = {_SHAPES[shape_of(card, {name: ""})] for name in ("prompt", "messages", "input")}
        return {"anyOf": [ref(name) for name in sorted(shapes)]}
    schema = card.output_schema or {}
    if not schema or compile_error(schema) is not None:
        return {}
    found = [branch for branch in leaves(schema) if branch.get("format") != "binary"]
    return {"anyOf": found} if found else {}


def _streams(card: ModelCard) -> bool:
    return any("stream" in properties(branch) for branch in leaves(card.input_schema or {}))
