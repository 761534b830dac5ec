"""Text embeddings in the platform's shapes: what a card's output schema knows of vectors, poolings and scores."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import numpy as np

from catalog import ModelCard
from runtime.progress import Progress
from runtime.tasks.embedding_inputs import EmbeddingInputs, read_embedding_inputs
from runtime.tasks.text_embeddings import Embedded, EmbeddingLimits, TextEmbeddings
from runtime.tasks.text_generation import Event, Finished, Result
from worker.errors import NotEmulated

_BATCH = "requests"


def read(card: ModelCard, checked: Mapping[str, Any]) -> EmbeddingInputs:
    """What validated inputs ask for; :class:`NotEmulated` for a batch to be fetched later."""
    if _BATCH in checked:
        raise NotEmulated(f"{card.name}: roost has no queue for 'requests' to be fetched later; send them one by one")
    return read_embedding_inputs(checked)


async def embed(
    card: ModelCard, inputs: EmbeddingInputs, task: TextEmbeddings, progress: Progress | None = None
) -> AsyncGenerator[Event]:
    """The result, then the end with its usage. Closing the iterator stops the computation."""
    limits = EmbeddingLimits(card.limits.max_input_tokens or card.limits.context_window, card.limits.output_dimensions)
    embedded = await task.embed(inputs.texts, limits, inputs.pooling, truncate=inputs.truncate, progress=progress)
    yield Result(_result(card, inputs, embedded))
    yield Finished(None, embedded.usage)


def _result(card: ModelCard, inputs: EmbeddingInputs, embedded: Embedded) -> dict[str, Any]:
    if inputs.wanted == "scores":
        return {"response": _scores(embedded)}
    vectors = "data" if inputs.wanted == "data" else "response"
    result: dict[str, Any] = {"shape": list(embedded.vectors.shape), vectors: embedded.vectors.tolist()}
    # Cards of before the choice say nothing of poolings.
    return {**result, "pooling": embedded.pooling} if "pooling" in _told(card.output_schema or {}) else result


def _scores(embedded: Embedded) -> list[dict[str, Any]]:
    """The cosine of each context with the query, the nearest first; ``id`` is a context's place in the request."""
    lengths = np.linalg.norm(embedded.vectors, axis=1, keepdims=True)
    query, *contexts = embedded.vectors / np.maximum(lengths, np.float32(1e-12))
    scores = [float(context @ query) for context in contexts]
    return [{"id": place, "score": score} for place, score in sorted(enumerate(scores), key=lambda pair: -pair[1])]


def _told(schema: Mapping[str, Any]) -> set[str]:
    """The names that any variant of an output schema has."""
    variants = [schema, *schema.get("oneOf", ()), *schema.get("anyOf", ())]
    return {name for variant in variants if isinstance(variant, Mapping) for name in variant.get("properties") or ()}
