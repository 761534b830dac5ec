"""A decoder in a GGUF file, read tensor by tensor from a memory map.

Covers the architectures of :mod:`runtime.gguf_architectures`. What it doesn't cover it refuses by name, rather than
build a model that is quietly wrong. Source: the GGUF specification (ggml/docs/gguf.md) and llama.cpp's converter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from runtime.config import DecoderShape
from runtime.errors import ArtifactError
from runtime.ggml_blocks import SERVED_TYPES, from_ggml
from runtime.gguf_architectures import GGUF_ARCHITECTURES
from runtime.quantization import Floats, Matrix, take_rows
from runtime.shape import LONGEST_CONTEXT, MOST_LAYERS, checked, within

_EMBEDDING, _FINAL_NORM, _HEAD = "token_embd.weight", "output_norm.weight", "output.weight"
_FACTORS, _SHORT, _LONG = "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"
_GEMMA2_27B = 46  # layers, by which llama.cpp knows the one whose queries are scaled by hidden / heads


class GgufWeights:
    """The tensors and metadata of one GGUF file. Raises :class:`ArtifactError` for what can't be served."""

    def __init__(self, path: Path) -> None:
        try:
            self._reader = gguf.GGUFReader(path)
        except (OSError, ValueError, IndexError, KeyError) as error:
            raise ArtifactError(f"{path.name} is not a readable GGUF file: {error}") from error
        self._file = path.name
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self._name = str(self.metadata("general.architecture"))
        if self._name not in GGUF_ARCHITECTURES:
            served = ", ".join(GGUF_ARCHITECTURES)
            raise ArtifactError(f"the GGUF architecture {self._name} isn't served; {served} are")
        self._architecture = GGUF_ARCHITECTURES[self._name]
        self._refuse_strangers()

    def metadata(self, key: str, default: Any = None) -> Any:
        """The value stored under ``key``, or ``default``."""
        entry = self._reader.fields.get(key)
        return default if entry is None else entry.contents()

    @cached_property
    def shape(self) -> DecoderShape:
        """The decoder's dimensions and constants, from the metadata."""
        heads, hidden = self._int("attention.head_count"), self._int("embedding_length")
        head_dim = self._int("attention.key_length", hidden // heads)
        rotated = self._int("rope.dimension_count", head_dim)
        return checked(
            DecoderShape(
                layers=self._layers,
                hidden=hidden,
                heads=heads,
                kv_heads=self._int("attention.head_count_kv", heads),
                head_dim=head_dim,
                ffn=self._int("feed_forward_length"),
                vocab=int(self._tensor(_EMBEDDING).shape[1]),
                context=min(self._context(), LONGEST_CONTEXT),
                rope_theta=self._float("rope.freq_base", 10_000.0),
                norm_epsilon=float(np.float32(self._float("attention.layer_norm_rms_epsilon", 1e-5))),
                window=self._int("attention.sliding_window", 0) or None,
                full_layers=self._full_layers(),
                rotary_dim=None if rotated == head_dim else rotated,
                rope_factors=self._rope_factors(rotated),
                rope_scale=self._float("rope.scaling.attn_factor", 1.0),
                activation=self._architecture.activation,
                embedding_scale=math.sqrt(hidden) if self._architecture.scaled_embedding else 1.0,
                attention_scale=self._attention_scale(hidden, heads),
                attention_softcap=self._float("attn_logit_softcapping", 0.0),
                logit_softcap=self._float("final_logit_softcapping", 0.0),
            ),
            self._file,
        )

    def linear(self, layer: int, part: str) -> Matrix:
        """One projection of a layer (``q k v o gate up down``), rows in the order of rotate-half rope."""
        matrix, order = self._matrix(f"{self._linear_name(layer, part)}.weight", self._rows(part)), self._order(part)
        return matrix if order is None else take_rows(matrix, order)

    def bias(self, layer: int, part: str) -> Floats | None:
        """A projection's bias, float32 ``[N]``, ``None`` where it has none."""
        name, order = f"{self._linear_name(layer, part)}.bias", self._order(part)
        if name not in self._tensors:
            return None
        return self._vector(name) if order is None else self._vector(name)[order]

    def norm(self, layer: int, part: str) -> Floats:
        """The gain of a layer's RMSNorm, float32, ready to multiply with."""
        return self._vector(f"blk.{layer}.{self._architecture.norms[part]}.weight")

    def optional_norm(self, layer: int, part: str) -> Floats | None:
        """The gain of a norm that only some architectures have."""
        return self.norm(layer, part) if part in self._architecture.norms else None

    def final_norm(self) -> Floats:
        """The gain of the last RMSNorm, float32 ``[hidden]``."""
        return self._vector(_FINAL_NORM)

    def embedding(self) -> Matrix:
        """The token embeddings ``[vocab, hidden]``."""
        return self._matrix(_EMBEDDING)

    def head(self) -> Matrix | None:
        """The output projection ``[vocab, hidden]``, or ``None`` where it is tied to the embedding."""
        return self._matrix(_HEAD) if _HEAD in self._tensors else None

    def precision(self) -> str:
        """The tensor type that most weights have, as GGUF names it: ``Q4_1``."""
        sizes: dict[str, int] = {}
        for tensor in self._tensors.values():
            name = str(tensor.tensor_type.name)
            sizes[name] = sizes.get(name, 0) + int(tensor.n_elements)
        return max(sizes, key=lambda name: sizes[name])

    @property
    def _layers(self) -> int:
        return within(self._int("block_count"), "block_count", self._file, MOST_LAYERS)

    def _context(self) -> int:
        """The short factors' context where there are two kinds: past it other factors turn every key anew."""
        context = self._int("context_length")
        return min(context, self._int("rope.scaling.original_context_length", context)) if self._has_two() else context

    def _full_layers(self) -> tuple[int, ...]:
        every = self._architecture.full_every
        return () if every is None else tuple(range(every - 1, self._layers, every))

    def _attention_scale(self, hidden: int, heads: int) -> float | None:
        return (hidden / heads) ** -0.5 if self._name == "gemma2" and self._layers == _GEMMA2_27B else None

    def _rope_factors(self, rotated: int) -> tuple[float, ...]:
        scaling = self.metadata(f"{self._name}.rope.scaling.type", "none")
        if scaling == "linear":
            return (self._float("rope.scaling.factor", 1.0),) * (rotated // 2)
        if scaling not in ("none", "longrope"):
            raise ArtifactError(f"{self._file} scales its rotary positions by {scaling}, which isn't served")
        name = next((name for name in (_SHORT, _FACTORS) if name in self._tensors), None)
        return () if name is None else tuple(self._vector(name).tolist())

    def _has_two(self) -> bool:
        return _SHORT in self._tensors

    def _linear_name(self, layer: int, part: str) -> str:
        return f"blk.{layer}.{self._architecture.linears[part]}"

    def _rows(self, part: str) -> slice:
        """Where ``part`` lies in its tensor."""
        shape = self.shape
        q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        if not self._architecture.fused or part in ("o", "down"):
            return slice(None)
        start = {"q": 0, "k": q, "v": q + kv, "gate": 0, "up": shape.ffn}[part]
        return slice(start, start + {"q": q, "k": kv, "v": kv}.get(part, shape.ffn))

    def _order(self, part: str) -> NDArray[np.intp] | None:
        """The order of a part's rows, where it isn't the file's."""
        if not self._architecture.interleaved or part not in ("q", "k"):
            return None
        heads = self.shape.heads if part == "q" else self.shape.kv_heads
        return _rotate_half_order(heads * self.shape.head_dim, heads)

    def _int(self, key: str, default: int | None = None) -> int:
        value = self.metadata(f"{self._name}.{key}", default)
        if value is None:
            raise ArtifactError(f"the GGUF file lacks {self._name}.{key}")
        return int(value)

    def _float(self, key: str, default: float) -> float:
        return float(self.metadata(f"{self._name}.{key}", default))

    def _tensor(self, name: str) -> Any:
        try:
            return self._tensors[name]
        except KeyError:
            raise ArtifactError(f"the GGUF file lacks the tensor {name}") from None

    def _matrix(self, name: str, rows: slice = slice(None)) -> Matrix:
        tensor = self._tensor(name)
        if tensor.tensor_type not in SERVED_TYPES:
            raise ArtifactError(f"the GGUF file's {name} is {tensor.tensor_type.name}, which isn't served")
        return from_ggml(tensor.data[rows], tensor.tensor_type)

    def _vector(self, name: str) -> Floats:
        return np.array(self._tensor(name).data, np.float32)

    def _refuse_strangers(self) -> None:
        expected = dict(self._expected())
        optional = {_HEAD, _FACTORS, _SHORT, _LONG}
        if strangers := sorted(self._tensors.keys() - expected.keys() - optional):
            raise ArtifactError(f"the GGUF file has tensors that aren't served: {', '.join(strangers[:3])}")
        for name, shape in expected.items():
            found = tuple(int(size) for size in reversed(self._tensor(name).shape))
            if found != shape:
                raise ArtifactError(f"the GGUF file's {name} is {list(found)}, not {list(shape)}")

    def _expected(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every tensor that the architecture has, with its shape."""
        shape, architecture = self.shape, self._architecture
        q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        rows = {"q": q, "k": kv, "v": kv, "o": shape.hidden, "gate": shape.ffn, "up": shape.ffn, "down": shape.hidden}
        if architecture.fused:
            rows |= dict.fromkeys("qkv", q + 2 * kv) | dict.fromkeys(("gate", "up"), 2 * shape.ffn)
        yield _EMBEDDING, (shape.vocab, shape.hidden)
        yield _FINAL_NORM, (shape.hidden,)
        for layer in range(shape.layers):
            for part, count in rows.items():
                columns = {"o": q, "down": shape.ffn}.get(part, shape.hidden)
                yield f"{self._linear_name(layer, part)}.weight", (count, columns)
                bias = f"{self._linear_name(layer, part)}.bias"
                if part in architecture.biased or (bias in self._tensors and not architecture.fused):
                    yield bias, (count,)
            for part, name in architecture.norms.items():
                width = shape.head_dim if part in ("q_norm", "k_norm") else shape.hidden
                yield f"blk.{layer}.{name}.weight", (width,)


def _rotate_half_order(rows: int, heads: int) -> NDArray[np.intp]:
    """Undo llama.cpp's interleaving of q and k rows: (pair, half) within each head becomes (half, pair)."""
    return np.arange(rows).reshape(heads, rows // heads // 2, 2).swapaxes(1, 2).reshape(rows)
