"""A decoder in a Hugging Face checkpoint's folder: ``config.json`` and safetensors, read tensor by tensor.

Shards are memory maps: a tensor is copied when it is asked for, as float32, and nothing is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (names bfloat16 to numpy, which safetensors then gives)
import numpy as np
from safetensors import SafetensorError, safe_open

from runtime.checkpoint_config import CheckpointConfig
from runtime.config import DecoderShape
from runtime.errors import ArtifactError
from runtime.quantization import Dense, Floats, Matrix

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_MODULES = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
_FUSED = {"q": "self_attn.qkv_proj", "k": "self_attn.qkv_proj", "v": "self_attn.qkv_proj"}
_FUSED |= {"gate": "mlp.gate_up_proj", "up": "mlp.gate_up_proj"}
_EMBEDDING, _FINAL_NORM, _HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
_IGNORED = ".rotary_emb.inv_freq"  # early files keep what follows from the configuration
_FLOATS = ("F32", "F16", "BF16")


class CheckpointWeights:
    """The tensors of one checkpoint, which lie in ``files``. Raises :class:`ArtifactError` for what can't be served."""

    def __init__(self, folder: Path) -> None:
        self._config = CheckpointConfig.read(folder)
        self._architecture = self._config.architecture
        self.shape: DecoderShape = self._config.shape()
        self._modules = _MODULES | (_FUSED if self._architecture.fused else {})
        self.files = [folder / name for name in _shard_names(folder)]
        self._tensors = _tensors_in(self.files)
        self._refuse_strangers()

    def linear(self, layer: int, part: str) -> Matrix:
        """One projection of a layer (``q k v o gate up down``)."""
        return Dense(self._read(f"{self._module(layer, part)}.weight", self._rows(part)))

    def bias(self, layer: int, part: str) -> Floats | None:
        """A projection's bias, float32 ``[N]``, ``None`` where the architecture has none."""
        if part not in self._biased_parts:
            return None
        return self._read(f"{self._module(layer, part)}.bias", self._rows(part))

    def norm(self, layer: int, part: str) -> Floats:
        """The gain of a layer's RMSNorm, float32, ready to multiply with."""
        return self._gain(f"model.layers.{layer}.{self._architecture.norms[part]}.weight")

    def optional_norm(self, layer: int, part: str) -> Floats | None:
        """The gain of a norm that only some architectures have."""
        return self.norm(layer, part) if part in self._architecture.norms else None

    def final_norm(self) -> Floats:
        """The gain of the last RMSNorm, float32 ``[hidden]``."""
        return self._gain(_FINAL_NORM)

    def embedding(self) -> Matrix:
        """The token embeddings ``[vocab, hidden]``."""
        return Dense(self._read(_EMBEDDING))

    def head(self) -> Matrix | None:
        """The output projection ``[vocab, hidden]``, or ``None`` where it is tied to the embedding."""
        return None if self._config.tied else Dense(self._read(_HEAD))

    def precision(self) -> str:
        """The type that most weights have, as safetensors names it: ``BF16``."""
        sizes: dict[str, int] = {}
        for name in self._tensors:
            view = self._slice(name)
            sizes[view.get_dtype()] = sizes.get(view.get_dtype(), 0) + int(np.prod(view.get_shape()))
        return max(sizes, key=lambda name: sizes[name])

    @cached_property
    def _biased_parts(self) -> tuple[str, ...]:
        mlp = ("gate", "up", "down") if "m" in self._config.biased else ()
        return (*(part for part in "qkvo" if part in self._config.biased), *mlp)

    def _module(self, layer: int, part: str) -> str:
        return f"model.layers.{layer}.{self._modules[part]}"

    def _rows(self, part: str) -> slice:
        """Where ``part`` lies in its tensor."""
        shape = self.shape
        q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        if not self._architecture.fused or part in ("o", "down"):
            return slice(None)
        start, size = {"q": (0, q), "k": (q, kv), "v": (q + kv, kv), "gate": (0, shape.ffn), "up": (shape.ffn,) * 2}[
            part
        ]
        return slice(start, start + size)

    def _gain(self, name: str) -> Floats:
        gain = self._read(name)
        return gain + np.float32(1) if self._architecture.unit_gains else gain

    def _read(self, name: str, rows: slice = slice(None)) -> Floats:
        view = self._slice(name)
        if view.get_dtype() not in _FLOATS:
            raise ArtifactError(f"the tensor {name} is of type {view.get_dtype()}; {', '.join(_FLOATS)} are served")
        return np.asarray(view[rows]).astype(np.float32)

    def _slice(self, name: str) -> Any:
        if name not in self._tensors:
            raise ArtifactError(f"the checkpoint lacks the tensor {name}")
        return self._tensors[name].get_slice(name)

    def _refuse_strangers(self) -> None:
        known = set(self._expected())
        found = {name for name in self._tensors if not name.endswith(_IGNORED)}
        if strangers := sorted(found - known - {_HEAD}):
            raise ArtifactError(f"the checkpoint has tensors that aren't served: {', '.join(strangers[:3])}")
        if missing := sorted(known - found):
            raise ArtifactError(f"the checkpoint lacks the tensor {missing[0]}")
        for name, shape in self._expected().items():
            if tuple(self._slice(name).get_shape()) != shape:
                raise ArtifactError(f"the tensor {name} is {self._slice(name).get_shape()}, not {list(shape)}")

    def _expected(self) -> dict[str, tuple[int, ...]]:
        """Every tensor that the architecture has, with its shape."""
        shape = self.shape
        tensors: dict[str, tuple[int, ...]] = {_EMBEDDING: (shape.vocab, shape.hidden), _FINAL_NORM: (shape.hidden,)}
        if not self._config.tied:
            tensors[_HEAD] = (shape.vocab, shape.hidden)
        for layer in range(shape.layers):
            for name, dimensions in self._expected_of_layer():
                tensors[f"model.layers.{layer}.{name}"] = dimensions
        return tensors

    def _expected_of_layer(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        shape = self.shape
        q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        rows = {"q": q, "k": kv, "v": kv, "o": shape.hidden, "gate": shape.ffn, "up": shape.ffn, "down": shape.hidden}
        if self._architecture.fused:
            rows |= dict.fromkeys("qkv", q + 2 * kv) | dict.fromkeys(("gate", "up"), 2 * shape.ffn)
        for part, module in self._modules.items():
            columns = {"o": q, "down": shape.ffn}.get(part, shape.hidden)
            yield f"{module}.weight", (rows[part], columns)
            if part in self._biased_parts:
                yield f"{module}.bias", (rows[part],)
        for part, module in self._architecture.norms.items():
            yield f"{module}.weight", (shape.head_dim if part in ("q_norm", "k_norm") else shape.hidden,)


def open_shards(folder: Path) -> dict[str, Any]:
    """By name of a tensor the open file that holds it, over all of a checkpoint's files."""
    return _tensors_in([folder / name for name in _shard_names(folder)])


def _tensors_in(files: list[Path]) -> dict[str, Any]:
    shards = [_open(path) for path in files]
    return {name: shard for shard in shards for name in shard.keys()}  # noqa: SIM118


def _shard_names(folder: Path) -> list[str]:
    """The safetensors files that make up the checkpoint."""
    index = folder / _INDEX
    if index.exists():
        try:
            places: dict[str, str] = json.loads(index.read_bytes())["weight_map"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{index} is not a readable index: {error!r}") from error
        if strangers := [name for name in places.values() if Path(name).name != name]:
            raise ArtifactError(f"{_INDEX} names a file outside the checkpoint: {strangers[0]}")
        return sorted(set(places.values()))
    if (folder / _SINGLE).exists():
        return [_SINGLE]
    raise ArtifactError(f"{folder} holds neither {_SINGLE} nor {_INDEX}")


def _open(path: Path) -> Any:
    if not path.is_file():
        raise ArtifactError(f"the checkpoint lacks the file {path.name}")
    try:
        return safe_open(path, framework="np")
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path.name} is not a readable safetensors file: {error}") from error
