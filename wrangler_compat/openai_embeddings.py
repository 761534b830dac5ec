"""OpenAI's embeddings: what a request asks for in the platform's words, and the list that answers it."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple

from catalog import Catalog
from runtime.errors import BadParameter
from worker.answer import Answer
from worker.doors import Question

_TASK = "Text Embeddings"


def of_embeddings(catalog: Catalog, body: Mapping[str, Any]) -> Question:
    """The question in a request's ``body``; :class:`BadParameter` for what no embedding model here takes."""
    stated = body.get("model")
    card = catalog[stated if isinstance(stated, str) else ""]
    if card.task.name != _TASK:
        raise BadParameter("/model", f"'/model' must be an embedding model: {card.name} performs {card.task.name}")
    form, dimensions = body.get("encoding_format") or "float", body.get("dimensions")
    if form not in ("float", "base64"):
        raise BadParameter("/encoding_format", f"enum {form} not in float,base64 at '/encoding_format'")
    if dimensions is not None and (isinstance(dimensions, bool) or not isinstance(dimensions, int)):
        raise BadParameter("/dimensions", "'/dimensions' must be a whole number")
    inputs = {"text": _texts(body.get("input"))}
    if body.get("pooling") is not None:  # not OpenAI's, but what extra_body may have
        inputs["pooling"] = body["pooling"]
    options = body.get("options")
    asked = (card.name, inputs, options if isinstance(options, Mapping) else None)
    return Question(asked, EmbeddingsForm(card.name, form == "base64", dimensions))


class EmbeddingsForm(NamedTuple):
    """OpenAI's list. ``as_base64``: of little-endian float32, as its SDKs ask for unasked.

    ``dimensions``: what was asked for; vectors can't be shortened here, so it must be what they have.
    """

    model: str
    as_base64: bool
    dimensions: int | None = None

    async def whole(self, answer: Answer) -> dict[str, Any]:
        """The list of the whole answer, with the tokens that were read."""
        result = await answer.result()
        has = result["shape"][1]
        if self.dimensions not in (None, has):
            raise BadParameter("/dimensions", f"'/dimensions' must be {has}: {self.model}'s vectors aren't shortened")
        rows = [
            {"object": "embedding", "index": place, "embedding": _packed(vector) if self.as_base64 else vector}
            for place, vector in enumerate(result["data"])
        ]
        tokens = answer.usage.prompt_tokens if answer.usage else 0
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": rows, "model": self.model, "usage": usage}

    def frames(self, answer: Answer) -> AsyncIterator[bytes]:
        """Embeddings are never streamed."""
        raise NotImplementedError


def _texts(given: Any) -> list[str]:
    texts = given if isinstance(given, list) else [given]
    tokens = texts[0] if texts and isinstance(texts[0], list) else texts
    if tokens and all(isinstance(token, int) for token in tokens):
        raise BadParameter("/input", "'/input' must be text: tokens of OpenAI's own mean nothing to these models")
    if not texts or not all(isinstance(text, str) for text in texts):
        raise BadParameter("/input", "'/input' must be text or a list of texts")
    return texts


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
