"""An encoder of BERT's kind in a Hugging Face checkpoint's folder, read tensor by tensor as float32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ml_dtypes  # noqa: F401  (names bfloat16 to numpy, which safetensors then gives)
import numpy as np

from runtime.checkpoint_weights import open_shards
from runtime.encoder_config import read_shape
from runtime.errors import ArtifactError
from runtime.quantization import Floats

_MODULES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "o": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
}
_NORMS = {"attention_norm": "attention.output.LayerNorm", "ffn_norm": "output.LayerNorm"}
_WORDS, _POSITIONS, _TYPES = (f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type"))
_FIRST_NORM = "embeddings.LayerNorm"
_IGNORED = ("embeddings.position_ids", "pooler.", "cls.", "lm_head.")
"""What a head on top of the encoder has, and what follows from the configuration."""
_FLOATS = ("F32", "F16", "BF16")


class EncoderWeights:
    """The tensors of one checkpoint. Raises :class:`ArtifactError` for what can't be served."""

    def __init__(self, folder: Path) -> None:
        self.shape, family = read_shape(folder)
        tensors = open_shards(folder)
        prefix = f"{family}." if f"{family}.{_WORDS}" in tensors else ""
        self._names = {name.removeprefix(prefix): name for name in tensors}
        self._tensors = tensors
        self._refuse_strangers()

    def matrix(self, layer: int, part: str) -> Floats:
        """One projection of a layer (``q k v o up down``), ``[outputs, inputs]``."""
        return self._read(f"encoder.layer.{layer}.{_MODULES[part]}.weight")

    def bias(self, layer: int, part: str) -> Floats:
        """Its bias."""
        return self._read(f"encoder.layer.{layer}.{_MODULES[part]}.bias")

    def norm(self, layer: int, part: str) -> tuple[Floats, Floats]:
        """Gain and shift of a layer's ``attention_norm`` or ``ffn_norm``."""
        return self._gain_and_shift(f"encoder.layer.{layer}.{_NORMS[part]}")

    def first_norm(self) -> tuple[Floats, Floats]:
        """Gain and shift of the norm of the embeddings."""
        return self._gain_and_shift(_FIRST_NORM)

    def words(self) -> Floats:
        """The token embeddings ``[vocab, hidden]``."""
        return self._read(_WORDS)

    def places(self) -> Floats:
        """What is added to a token's embedding by its place ``[context, hidden]``; the segment's is in it."""
        added: Floats = self._read(_POSITIONS)[self.shape.first_position :] + self._read(_TYPES)[0]
        return added

    def _gain_and_shift(self, name: str) -> tuple[Floats, Floats]:
        return self._read(f"{name}.weight"), self._read(f"{name}.bias")

    def _read(self, name: str) -> Floats:
        view = self._tensors[self._names[name]].get_slice(self._names[name])
        if view.get_dtype() not in _FLOATS:
            raise ArtifactError(f"the tensor {name} is of type {view.get_dtype()}; {', '.join(_FLOATS)} are served")
        values: Floats = np.asarray(view[:]).astype(np.float32)
        if not np.isfinite(values).all():
            raise ArtifactError(f"{name} holds a weight that is infinite or not a number: the file is damaged")
        return values

    def _refuse_strangers(self) -> None:
        expected = dict(self._expected())
        found = {name for name in self._names if not name.startswith(_IGNORED)}
        if strangers := sorted(found - expected.keys()):
            raise ArtifactError(f"the checkpoint has tensors that aren't served: {', '.join(strangers[:3])}")
        if missing := sorted(expected.keys() - found):
            raise ArtifactError(f"the checkpoint lacks the tensor {missing[0]}")
        for name, dimensions in expected.items():
            has = tuple(self._tensors[self._names[name]].get_slice(self._names[name]).get_shape())
            if has != dimensions:
                raise ArtifactError(f"the tensor {name} is {list(has)}, not {list(dimensions)}")

    def _expected(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every tensor that the encoder has, with its shape."""
        shape = self.shape
        hidden = shape.hidden
        yield _WORDS, (shape.vocab, hidden)
        yield _POSITIONS, (shape.context + shape.first_position, hidden)
        yield _TYPES, (shape.types, hidden)
        norms = [_FIRST_NORM]
        for layer in range(shape.layers):
            at = f"encoder.layer.{layer}"
            norms += [f"{at}.{name}" for name in _NORMS.values()]
            for part, name in _MODULES.items():
                rows, columns = {"up": (shape.ffn, hidden), "down": (hidden, shape.ffn)}.get(part, (hidden, hidden))
                yield f"{at}.{name}.weight", (rows, columns)
                yield f"{at}.{name}.bias", (rows,)
        for name in norms:
            yield f"{name}.weight", (hidden,)
            yield f"{name}.bias", (hidden,)
