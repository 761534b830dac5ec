"""What the pages say of one model, as JSON. Knows no HTML and no route."""

from __future__ import annotations

from typing import Any

from catalog import ModelCard
from runtime.errors import ArtifactError, NoWeights
from runtime.loading import expected_device
from runtime.pool import Pool
from worker.errors import CODES, NotEmulated
from wrangler_compat.pages.facets import runs_here
from wrangler_compat.pages.form import as_json, modes
from wrangler_compat.pages.schema_tree import tree
from wrangler_compat.pages.snippets import example, snippets


def summary(card: ModelCard) -> dict[str, Any]:
    """A card as the list shows it."""
    return {
        "name": card.name,
        "display_name": card.display_name,
        "author": card.author,
        "description": card.description,
        "task": card.task.name,
        "runs_here": runs_here(card),
        "beta": card.beta,
        "lora": card.takes_lora,
        "function_calling": card.calls_functions,
        "deprecated": card.deprecated,
        "context": card.limits.total,
    }


def details(card: ModelCard, pool: Pool, url: str, *, token: bool) -> dict[str, Any]:
    """Everything: ``url`` and ``token`` are those of the snippets."""
    inputs = example(card)
    return {
        **summary(card),
        "id": card.id,
        "source": card.source,
        "task_description": card.task.description,
        "created_at": card.created_at,
        "tags": list(card.tags),
        "properties": [entry.model_dump(mode="json") for entry in card.properties],
        "limits": card.limits.model_dump(exclude_none=True),
        "anomalies": [*card.anomalies, *card.oddities],
        "answered_by": answered_by(card, pool),
        "input_schema": card.input_schema,
        "output_schema": card.output_schema,
        "input_tree": tree(card.input_schema),
        "output_tree": tree(card.output_schema),
        "example": inputs,
        "snippets": [snippet.as_json(inputs) for snippet in snippets(card, url, token=token)],
        "modes": [as_json(mode) for mode in modes(card)],
    }


def answered_by(card: ModelCard, pool: Pool) -> dict[str, Any]:
    """Which weights answer for the model, and where; or why none do."""
    if not runs_here(card):
        code = CODES[NotEmulated].internal
        return {"weights": None, "why": f"roost can't run {card.task.name} yet: a request gets error {code}"}
    try:
        artifact = pool.artifact(card.name)
    except (NoWeights, ArtifactError) as error:
        return {"weights": None, "why": str(error)}
    manifest = artifact.manifest
    return {
        "weights": manifest.weights,
        "precision": manifest.described,
        "stand_in": manifest.stand_in,
        "device": expected_device(artifact, pool.device).described,
        "megabytes": round(artifact.size / 1e6),
    }
