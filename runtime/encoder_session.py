"""An encoder in ONNX Runtime: token ids of several texts in, one pooled vector for each out. On the CPU alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.config import EmbeddingFacts, Pooling
from runtime.device import Device, usable_cores
from runtime.errors import ArtifactError
from runtime.session import open_session

FED = ("input_ids", "lengths", "attention_mask", "token_type_ids", "position_ids")
"""The inputs that a graph may have."""
_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


@dataclass(frozen=True, slots=True)
class Row:
    """One text's tokens, and how its vector is made of theirs."""

    tokens: Sequence[int]
    pooling: Pooling


class EncoderSession:
    """One encoder, loaded. Used by one thread at a time. ``longest``: tokens of a text that it can read."""

    def __init__(self, model: Path, facts: EmbeddingFacts, *, threads: int | None = None) -> None:
        self._session = open_session(model, Device(), threads or usable_cores())
        self._types = {entry.name: _TYPES.get(entry.type) for entry in self._session.get_inputs()}
        if strangers := sorted(name for name, kind in self._types.items() if kind is None or name not in FED):
            raise ArtifactError(f"{model.name} has an input that isn't served: {strangers[0]}")
        self._output = facts.output
        self.longest = facts.longest
        self.dimensions = facts.dimensions

    def run(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """The pooled vectors of ``rows``, float32 ``[len(rows), dimensions]``; shorter rows are filled up."""
        lengths = np.array([len(row.tokens) for row in rows], np.int64)
        ids = np.zeros((len(rows), int(lengths.max())), np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row.tokens)] = row.tokens
        (hidden,) = self._session.run([self._output], self._inputs(ids, lengths))
        # float16 graphs are pooled in float32.
        return np.stack([_pooled(vectors[: len(row.tokens)], row) for vectors, row in zip(hidden, rows, strict=True)])

    def close(self) -> None:
        """Release the model."""
        self.__dict__.pop("_session", None)

    def _inputs(self, ids: NDArray[np.int64], lengths: NDArray[np.int64]) -> dict[str, Any]:
        places = np.arange(ids.shape[1])
        values: dict[str, NDArray[Any]] = {
            "input_ids": ids,
            "lengths": lengths,
            "attention_mask": places[None, :] < lengths[:, None],
            "token_type_ids": np.zeros_like(ids),
            "position_ids": np.broadcast_to(places, ids.shape),
        }
        return {name: values[name].astype(kind) for name, kind in self._types.items() if kind is not None}


def _pooled(vectors: NDArray[Any], row: Row) -> NDArray[np.float32]:
    pooled: NDArray[np.float32] = vectors[0] if row.pooling == "cls" else vectors.mean(axis=0, dtype=np.float32)
    return pooled.astype(np.float32)
