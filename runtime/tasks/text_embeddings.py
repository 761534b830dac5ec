"""Text embeddings: texts in, a vector for each out. Knows tokens, their limit and poolings; no API's shapes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from runtime.config import EmbeddingFacts, Pooling, Usage
from runtime.encoder_engine import EncoderEngine
from runtime.errors import BadParameter, ContextTooLong
from runtime.progress import Progress

_AT_ONCE = 4096  # characters, a millisecond's worth of tokens: less than another thread costs


@dataclass(frozen=True, slots=True)
class EmbeddingLimits:
    """What a card says. ``tokens``: of one text; ``dimensions``: of a vector. ``None`` where it doesn't."""

    tokens: int | None = None
    dimensions: int | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of some texts, float32 ``[texts, dimensions]``, the pooling that made them, and what was read."""

    vectors: NDArray[np.float32]
    pooling: Pooling
    usage: Usage


class TextEmbeddings:
    """The task over one loaded model. ``stand_in``: its vectors may be lengthened to what another model's card says."""

    def __init__(
        self, engine: EncoderEngine, tokenizer: Tokenizer, facts: EmbeddingFacts, *, stand_in: bool = False
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._facts = facts
        self._stand_in = stand_in

    async def embed(
        self,
        texts: Sequence[str],
        limits: EmbeddingLimits,
        pooling: Pooling | None = None,
        *,
        truncate: bool = True,
        progress: Progress | None = None,
    ) -> Embedded:
        """A vector for each of ``texts``; cancelling this stops the computation. ``pooling``: else the model's own.

        ``truncate``: a text past the card's limit loses its end, otherwise it is refused with :class:`ContextTooLong`.
        What only the weights that answer can't read is cut off in any case. Raises :class:`BadParameter` for a text
        without tokens, :class:`Overloaded` where too many wait.
        """
        pooling = pooling or self._facts.pooling
        rows = await self._read(texts, limits.tokens, truncate=truncate)
        vectors = await self._engine.submit(rows, pooling, progress).vectors()
        if self._facts.normalised:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
        return Embedded(self._lengthened(vectors, limits.dimensions), pooling, Usage(sum(map(len, rows)), 0))

    async def _read(self, texts: Sequence[str], limit: int | None, *, truncate: bool) -> list[list[int]]:
        """The tokens of ``texts``, each at most as many as the card and the weights admit."""
        longest = min(self._facts.longest, limit or self._facts.longest)
        rows, short = [], sum(map(len, texts)) <= _AT_ONCE
        for text in texts:  # one by one: whoever leaves stops it, and the library doesn't take every core
            encoding = self._encoded(text) if short else await asyncio.to_thread(self._encoded, text)
            if limit is not None and not truncate and len(encoding.ids) > limit:
                raise ContextTooLong(len(encoding.ids), limit, what="input tokens")
            rows.append(_cut(encoding.ids, encoding.special_tokens_mask, longest))
        if not all(rows):
            raise BadParameter("/text", "'/text' has a text without tokens")
        return rows

    def _encoded(self, text: str) -> Encoding:
        try:
            return self._tokenizer.encode(text)
        except TypeError as error:  # tokenizers' word for half a surrogate pair, which JSON can write
            raise BadParameter("/", "the text holds half a character (a lone surrogate)") from error

    def _lengthened(self, vectors: NDArray[np.float32], dimensions: int | None) -> NDArray[np.float32]:
        """A stand-in's vectors with zeros at their end: lengths, angles and distances stay what they are."""
        missing = (dimensions or 0) - vectors.shape[1]
        return np.pad(vectors, ((0, 0), (0, missing))) if self._stand_in and missing > 0 else vectors


def _cut(ids: list[int], special: list[int], longest: int) -> list[int]:
    """``ids`` without the last words of the text, the tokens that end every text kept: as tokenizers truncate."""
    if len(ids) <= longest:
        return ids
    ends = next((count for count, mark in enumerate(reversed(special)) if not mark), len(special))
    return [*ids[: longest - ends], *ids[len(ids) - ends :]]
