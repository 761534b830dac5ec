"""Reads validated inputs of text embeddings, in all the forms that cards have, into one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from runtime.config import Pooling
from runtime.errors import BadParameter

Wanted: TypeAlias = Literal["data", "contexts", "scores"]
"""Vectors of texts, vectors of contexts, or how near the contexts are to a query."""
_TEXTS = ("queries", "documents", "text")
_POOLINGS: dict[object, Pooling | None] = {None: None, "mean": "mean", "cls": "cls"}


@dataclass(frozen=True, slots=True)
class EmbeddingInputs:
    """Texts to embed, the query first where one is ``wanted`` scores for. ``pooling``: ``None`` for the model's own."""

    texts: tuple[str, ...]
    wanted: Wanted
    pooling: Pooling | None
    truncate: bool


def read_embedding_inputs(inputs: Mapping[str, Any]) -> EmbeddingInputs:
    """Validated inputs (a card's defaults filled in) as this task's own type; :class:`BadParameter` if senseless.

    ``text`` is text or a list; bge-m3 has ``contexts``, alone or with a ``query``, and ``truncate_inputs``; Qwen3's
    ``queries`` and ``documents`` are embedded in that order.
    """
    pooling = inputs.get("pooling")
    if pooling not in _POOLINGS:
        raise BadParameter("/pooling", f"enum {pooling} not in mean,cls at '/pooling'")
    truncate = inputs.get("truncate_inputs", True) is True
    if (contexts := inputs.get("contexts")) is not None:
        texts = [_text(context, f"/contexts/{place}") for place, context in enumerate(contexts)]
        query = inputs.get("query")
        both = texts if query is None else [str(query), *texts]
        return EmbeddingInputs(tuple(both), "contexts" if query is None else "scores", _POOLINGS[pooling], truncate)
    texts = [text for name in _TEXTS for text in _texts(inputs.get(name), f"/{name}")]
    if not texts:
        raise BadParameter("/", "required properties at '/' are 'text'")
    return EmbeddingInputs(tuple(texts), "data", _POOLINGS[pooling], truncate)


def _texts(given: Any, path: str) -> list[str]:
    texts = [] if given is None else [given] if isinstance(given, str) else given
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise BadParameter(path, f"'{path}' must be text or a list of texts")
    return list(texts)


def _text(context: Any, path: str) -> str:
    text = context.get("text") if isinstance(context, Mapping) else None
    if not isinstance(text, str):
        raise BadParameter(path, f"required properties at '{path}' are 'text'")
    return text
