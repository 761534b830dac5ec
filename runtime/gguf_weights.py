"""A Llama-family decoder in a GGUF file, read tensor by tensor from a memory map.

Covers GGUF's ``llama`` architecture (Llama and Mistral). What it doesn't cover it refuses by name, rather than
build a model that is quietly wrong. Source: the GGUF specification (ggml/docs/gguf.md) and llama.cpp's converter.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from runtime.config import DecoderShape
from runtime.errors import ArtifactError
from runtime.ggml_blocks import SERVED_TYPES, from_ggml
from runtime.quantization import Floats, Matrix, take_rows

_LINEARS = {
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}
_NORMS = {"attention_norm": "attn_norm", "ffn_norm": "ffn_norm"}


class GgufWeights:
    """The tensors and metadata of one GGUF file. Raises :class:`ArtifactError` for what can't be served."""

    def __init__(self, path: Path) -> None:
        try:
            self._reader = gguf.GGUFReader(path)
        except (OSError, ValueError, IndexError, KeyError) as error:
            raise ArtifactError(f"{path.name} is not a readable GGUF file: {error}") from error
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        architecture = self.metadata("general.architecture")
        if architecture != "llama":
            raise ArtifactError(f"GGUF architecture {architecture!r} isn't served; llama (Llama, Mistral) is")
        self._refuse_strangers()

    def metadata(self, key: str, default: Any = None) -> Any:
        """The value stored under ``key``, or ``default``."""
        entry = self._reader.fields.get(key)
        return default if entry is None else entry.contents()

    @cached_property
    def shape(self) -> DecoderShape:
        """The decoder's dimensions, from the metadata."""
        heads, hidden = self._int("attention.head_count"), self._int("embedding_length")
        return DecoderShape(
            layers=self._int("block_count"),
            hidden=hidden,
            heads=heads,
            kv_heads=self._int("attention.head_count_kv", heads),
            head_dim=self._int("attention.key_length", hidden // heads),
            ffn=self._int("feed_forward_length"),
            vocab=int(self._tensor("token_embd.weight").shape[1]),
            context=self._int("context_length"),
            rope_theta=float(self.metadata("llama.rope.freq_base", 10_000.0)),
            norm_epsilon=float(np.float32(self.metadata("llama.attention.layer_norm_rms_epsilon", 1e-5))),
            window=self._int("attention.sliding_window", 0) or None,
        )

    def linear(self, layer: int, part: str) -> Matrix:
        """One projection of a layer (``q k v o gate up down``), rows in the order of rotate-half rope."""
        matrix = self._matrix(f"blk.{layer}.{_LINEARS[part]}.weight")
        if part in ("q", "k"):
            heads = self.shape.heads if part == "q" else self.shape.kv_heads
            return take_rows(matrix, _rotate_half_order(matrix.shape[0], heads))
        return matrix

    def bias(self, layer: int, part: str) -> Floats | None:  # noqa: ARG002
        """``None``: GGUF's ``llama`` models have no biases."""
        return None

    def norm(self, layer: int, part: str) -> Floats:
        """The gain of a layer's RMSNorm (``attention_norm`` or ``ffn_norm``), float32 ``[hidden]``."""
        return self._vector(f"blk.{layer}.{_NORMS[part]}.weight")

    def optional_norm(self, layer: int, part: str) -> Floats | None:  # noqa: ARG002
        """``None``: GGUF's ``llama`` models have no other norms."""
        return None

    def final_norm(self) -> Floats:
        """The gain of the last RMSNorm, float32 ``[hidden]``."""
        return self._vector("output_norm.weight")

    def embedding(self) -> Matrix:
        """The token embeddings ``[vocab, hidden]``."""
        return self._matrix("token_embd.weight")

    def head(self) -> Matrix | None:
        """The output projection ``[vocab, hidden]``, or ``None`` where it is tied to the embedding."""
        return self._matrix("output.weight") if "output.weight" in self._tensors else None

    def precision(self) -> str:
        """The tensor type that most weights have, as GGUF names it: ``Q4_1``."""
        sizes: dict[str, int] = {}
        for tensor in self._tensors.values():
            name = str(tensor.tensor_type.name)
            sizes[name] = sizes.get(name, 0) + int(tensor.n_elements)
        return max(sizes, key=lambda name: sizes[name])

    def _int(self, key: str, default: int | None = None) -> int:
        value = self.metadata(f"llama.{key}", default)
        if value is None:
            raise ArtifactError(f"the GGUF file lacks llama.{key}")
        return int(value)

    def _tensor(self, name: str) -> Any:
        try:
            return self._tensors[name]
        except KeyError:
            raise ArtifactError(f"the GGUF file lacks the tensor {name}") from None

    def _matrix(self, name: str) -> Matrix:
        tensor = self._tensor(name)
        if tensor.tensor_type not in SERVED_TYPES:
            raise ArtifactError(f"the GGUF file's {name} is {tensor.tensor_type.name}, which isn't served")
        return from_ggml(tensor.data, tensor.tensor_type)

    def _vector(self, name: str) -> Floats:
        return np.array(self._tensor(name).data, np.float32)

    def _refuse_strangers(self) -> None:
        layers = range(self._int("block_count"))
        parts = (*_LINEARS.values(), *_NORMS.values())
        known = {f"blk.{layer}.{part}.weight" for layer in layers for part in parts}
        known |= {"token_embd.weight", "output_norm.weight", "output.weight"}
        if strangers := sorted(self._tensors.keys() - known):
            raise ArtifactError(f"the GGUF file has tensors that aren't served: {', '.join(strangers[:3])}")
        if self.metadata("llama.rope.scaling.type", "none") != "none":
            raise ArtifactError("the GGUF file scales its rotary positions, which isn't served")


def _rotate_half_order(rows: int, heads: int) -> NDArray[np.intp]:
    """Undo llama.cpp's interleaving of q and k rows: (pair, half) within each head becomes (half, pair)."""
    return np.arange(rows).reshape(heads, rows // heads // 2, 2).swapaxes(1, 2).reshape(rows)
