"""Writes a Llama-family decoder as an ONNX model with an in-place KV cache. Knows no file format of weights.

Inputs: ``input_ids`` int64 [B, S]; ``seqlens_k`` int32 [B], a row's tokens in the cache after the step, less one;
``total_seq`` int32 [], the largest of those counts; ``logit_idx`` int64 [n], positions of the flattened [B*S] whose
logits are wanted (n may be 0); ``past.{i}.k|v`` float32 [B, kv_heads, T, head_dim].
Outputs: ``logits`` float32 [n, vocab]; ``present.{i}.k|v`` of the pasts' shape, to be bound to the same memory.

Operators are ONNX Runtime's (com.microsoft: GroupQueryAttention, SkipSimplifiedLayerNormalization).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx

from runtime.config import DecoderShape
from runtime.graph_writer import GraphWriter
from runtime.linear_graph import HEAD_INPUT, SERVED, Precision, Products
from runtime.quantization import BLOCK, Floats, Int8, Matrix

_Attributes = dict[str, Any]


class DecoderWeights(Protocol):
    """Where a decoder's tensors come from; each is asked for once, in order."""

    @property
    def shape(self) -> DecoderShape: ...  # noqa: D102
    def linear(self, layer: int, part: str) -> Matrix: ...  # noqa: D102
    def norm(self, layer: int, part: str) -> Floats: ...  # noqa: D102
    def final_norm(self) -> Floats: ...  # noqa: D102
    def embedding(self) -> Matrix: ...  # noqa: D102
    def head(self) -> Matrix | None: ...  # noqa: D102


def write_decoder(path: Path, weights: DecoderWeights, precision: Precision = SERVED) -> None:
    """Write ``path`` and ``path`` + ``.data``, holding one layer's tensors in memory at a time."""
    with path.with_name(path.name + ".data").open("wb") as data:
        writer = GraphWriter(data, path.name + ".data")
        _Decoder(writer, weights, precision).build()
    onnx.save(writer.model(weights.shape), path)


class _Decoder:
    """Lays down the decoder, node by node, in the order in which it computes."""

    def __init__(self, writer: GraphWriter, weights: DecoderWeights, precision: Precision) -> None:
        self._graph = writer
        self._weights = weights
        self._shape = weights.shape
        self._products = Products(writer, precision)

    def build(self) -> None:
        embedding = self._weights.embedding()
        self._rotary_tables()
        residual = self._embed(embedding)
        branch: str | None = None
        for layer in range(self._shape.layers):
            branch, residual = self._layer(layer, branch, residual)
        assert branch is not None  # a decoder has layers
        self._head(branch, residual, self._weights.head(), embedding)

    def _rotary_tables(self) -> None:
        shape = self._shape
        exponents = np.arange(0, shape.head_dim, 2, dtype=np.float64) / shape.head_dim
        angles = np.outer(np.arange(shape.context), shape.rope_theta**-exponents)
        self._graph.constant("rope.cos", np.cos(angles).astype(np.float32))
        self._graph.constant("rope.sin", np.sin(angles).astype(np.float32))

    def _embed(self, table: Matrix) -> str:
        graph = self._graph
        if not isinstance(table, Int8):
            return graph.op("Gather", [graph.constant("embed.w", table.dense()), "input_ids"], name="embed")
        codes = graph.constant("embed.q", table.unsigned())
        scales = graph.constant("embed.s", table.scales)
        attrs: _Attributes = {"bits": 8, "block_size": BLOCK, "gather_axis": 0, "quantize_axis": 1}
        return graph.microsoft("GatherBlockQuantized", [codes, "input_ids", scales], name="embed", **attrs)

    def _layer(self, layer: int, branch: str | None, residual: str) -> tuple[str, str]:
        name = f"layer{layer}"
        x, residual = self._norm(f"{name}.norm1", branch, residual, self._weights.norm(layer, "attention_norm"))
        branch = self._attention(layer, x)
        x, residual = self._norm(f"{name}.norm2", branch, residual, self._weights.norm(layer, "ffn_norm"))
        return self._mlp(layer, x), residual

    def _norm(self, name: str, branch: str | None, residual: str, gain: Floats) -> tuple[str, str]:
        """RMSNorm of ``residual`` + ``branch``; returns the norm and that sum."""
        graph, epsilon = self._graph, self._shape.norm_epsilon
        gain_name = graph.constant(f"{name}.g", gain)
        if branch is None:
            attrs: _Attributes = {"epsilon": epsilon, "axis": -1, "stash_type": 1}
            return graph.op("SimplifiedLayerNormalization", [residual, gain_name], name=name, **attrs), residual
        total = f"{name}.sum"
        inputs, outputs = [branch, residual, gain_name], [name, "", "", total]
        graph.microsoft("SkipSimplifiedLayerNormalization", inputs, name=name, outputs=outputs, epsilon=epsilon)
        return name, total

    def _attention(self, layer: int, x: str) -> str:
        graph, shape, name = self._graph, self._shape, f"layer{layer}"
        qkv = self._products.linear(f"{name}.qkv", x, [self._weights.linear(layer, part) for part in "qkv"])
        past = [f"past.{layer}.k", f"past.{layer}.v"]
        present = [f"present.{layer}.k", f"present.{layer}.v"]
        window = {} if shape.window is None else {"local_window_size": shape.window}
        attended = graph.microsoft(
            "GroupQueryAttention",
            [qkv, "", "", *past, "seqlens_k", "total_seq", "rope.cos", "rope.sin"],
            name=f"{name}.gqa",
            outputs=[f"{name}.attended", *present],
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            do_rotary=1,
            rotary_interleaved=0,
            scale=1 / math.sqrt(shape.head_dim),
            **window,
        )
        return self._products.linear(f"{name}.o", attended, [self._weights.linear(layer, "o")])

    def _mlp(self, layer: int, x: str) -> str:
        graph, name = self._graph, f"layer{layer}"
        parts = [self._weights.linear(layer, "gate"), self._weights.linear(layer, "up")]
        both = self._products.linear(f"{name}.gate_up", x, parts)
        halves = graph.constant("ffn.halves", np.array([self._shape.ffn] * 2, np.int64))
        gate, up = f"{name}.gate", f"{name}.up"
        graph.op("Split", [both, halves], name=f"{name}.split", outputs=[gate, up], axis=-1)
        silu = graph.microsoft("QuickGelu", [gate], name=f"{name}.silu", alpha=1.0)
        gated = graph.op("Mul", [silu, up], name=f"{name}.gated")
        return self._products.linear(f"{name}.down", gated, [self._weights.linear(layer, "down")])

    def _head(self, branch: str, residual: str, head: Matrix | None, embedding: Matrix) -> None:
        """Logits of the wanted rows only: they are gathered before the last norm, which is per row."""
        flat = self._graph.constant("flat", np.array([-1, self._shape.hidden], np.int64))
        wanted = [self._wanted_rows(name, x, flat) for name, x in (("branch", branch), ("residual", residual))]
        x, _ = self._norm(HEAD_INPUT, wanted[0], wanted[1], self._weights.final_norm())
        matrix = embedding if head is None else head
        self._products.product("logits", x, matrix, tied_to="embed" if head is None else None)

    def _wanted_rows(self, name: str, x: str, flat: str) -> str:
        rows = self._graph.op("Reshape", [x, flat], name=f"head.{name}.flat")
        return self._graph.op("Gather", [rows, "logit_idx"], name=f"head.{name}", axis=0)
