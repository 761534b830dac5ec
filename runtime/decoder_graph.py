"""Writes a decoder of Llama's kind as an ONNX model with an in-place KV cache. Knows no file format of weights.

Inputs: ``input_ids`` int64 [B, S]; ``seqlens_k`` int32 [B], a row's tokens in the cache after the step, less one;
``total_seq`` int32 [], the largest of those counts; ``logit_idx`` int64 [n], positions of the flattened [B*S] whose
logits are wanted (n may be 0); ``past.{i}.k|v`` float32, or float16
in half precision, [B, kv_heads, T, head_dim].
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
    """Where a decoder's tensors come from; each is asked for once, in order.

    Linear parts are ``q k v o gate up down``; a part's bias is ``None`` where it has none. Every layer has the norms
    ``attention_norm`` and ``ffn_norm``; ``attention_post_norm``, ``ffn_post_norm`` (of what a branch gives, before it
    is added), ``q_norm`` and ``k_norm`` (of each head, before its rotation) are ``None`` where a model has none.
    """

    @property
    def shape(self) -> DecoderShape: ...  # noqa: D102
    def linear(self, layer: int, part: str) -> Matrix: ...  # noqa: D102
    def bias(self, layer: int, part: str) -> Floats | None: ...  # noqa: D102
    def norm(self, layer: int, part: str) -> Floats: ...  # noqa: D102
    def optional_norm(self, layer: int, part: str) -> Floats | None: ...  # noqa: D102
    def final_norm(self) -> Floats: ...  # noqa: D102
    def embedding(self) -> Matrix: ...  # noqa: D102
    def head(self) -> Matrix | None: ...  # noqa: D102


def write_decoder(path: Path, weights: DecoderWeights, precision: Precision = SERVED) -> None:
    """Write ``path`` and ``path`` + ``.data``, holding one layer's tensors in memory at a time."""
    with path.with_name(path.name + ".data").open("wb") as data:
        writer = GraphWriter(data, path.name + ".data", half=precision.half)
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
        residual = self._scaled(self._embed(embedding))
        branch: str | None = None
        for layer in range(self._shape.layers):
            branch, residual = self._layer(layer, branch, residual)
        assert branch is not None  # a decoder has layers
        self._head(branch, residual, self._weights.head(), embedding)

    def _rotary_tables(self) -> None:
        shape = self._shape
        rotated = shape.rotary_dim or shape.head_dim
        exponents = np.arange(0, rotated, 2, dtype=np.float64) / rotated
        frequencies = shape.rope_theta**-exponents / np.array(shape.rope_factors or 1.0)
        angles = np.outer(np.arange(shape.context), frequencies)
        self._graph.constant("rope.cos", (np.cos(angles) * shape.rope_scale).astype(np.float32))
        self._graph.constant("rope.sin", (np.sin(angles) * shape.rope_scale).astype(np.float32))

    def _embed(self, table: Matrix) -> str:
        graph = self._graph
        if self._graph.half or not isinstance(table, Int8):
            return graph.op("Gather", [graph.constant("embed.w", table.dense()), "input_ids"], name="embed")
        codes = graph.constant("embed.q", table.unsigned())
        scales = graph.constant("embed.s", table.scales)
        attrs: _Attributes = {"bits": 8, "block_size": BLOCK, "gather_axis": 0, "quantize_axis": 1}
        return graph.microsoft("GatherBlockQuantized", [codes, "input_ids", scales], name="embed", **attrs)

    def _scaled(self, embedded: str) -> str:
        if self._shape.embedding_scale == 1:
            return embedded
        scale = self._graph.constant("embed.scale", np.array(self._shape.embedding_scale, np.float32))
        return self._graph.op("Mul", [embedded, scale], name="embed.scaled")

    def _layer(self, layer: int, branch: str | None, residual: str) -> tuple[str, str]:
        name, weights = f"layer{layer}", self._weights
        x, residual = self._add_and_norm(f"{name}.norm1", branch, residual, weights.norm(layer, "attention_norm"))
        attended = self._attention(layer, x)
        branch = self._norm(f"{name}.post_norm1", attended, weights.optional_norm(layer, "attention_post_norm"))
        x, residual = self._add_and_norm(f"{name}.norm2", branch, residual, weights.norm(layer, "ffn_norm"))
        fed = self._mlp(layer, x)
        return self._norm(f"{name}.post_norm2", fed, weights.optional_norm(layer, "ffn_post_norm")), residual

    def _add_and_norm(self, name: str, branch: str | None, residual: str, gain: Floats) -> tuple[str, str]:
        """RMSNorm of ``residual`` + ``branch``; returns the norm and that sum."""
        if branch is None:
            return self._norm(name, residual, gain), residual
        total = f"{name}.sum"
        inputs = [branch, residual, self._graph.constant(f"{name}.g", gain)]
        attrs: _Attributes = {"outputs": [name, "", "", total], "epsilon": self._shape.norm_epsilon}
        self._graph.microsoft("SkipSimplifiedLayerNormalization", inputs, name=name, **attrs)
        return name, total

    def _norm(self, name: str, x: str, gain: Floats | None) -> str:
        """RMSNorm of ``x`` over its last axis; ``x`` itself where there is no gain."""
        if gain is None:
            return x
        inputs = [x, self._graph.constant(f"{name}.g", gain)]
        attrs: _Attributes = {"epsilon": self._shape.norm_epsilon, "axis": -1, "stash_type": 1}
        return self._graph.op("SimplifiedLayerNormalization", inputs, name=name, **attrs)

    def _attention(self, layer: int, x: str) -> str:
        name = f"layer{layer}"
        past = [f"past.{layer}.k", f"past.{layer}.v"]
        inputs = [*self._queries_keys_values(layer, x), *past, "seqlens_k", "total_seq", "rope.cos", "rope.sin"]
        outputs = [f"{name}.attended", f"present.{layer}.k", f"present.{layer}.v"]
        attrs = self._attention_attributes(layer)
        attended = self._graph.microsoft(
            "GroupQueryAttention", inputs, name=f"{name}.gqa", outputs=outputs, do_rotary=1, **attrs
        )
        return self._linear(f"{name}.o", layer, attended, "o")

    def _queries_keys_values(self, layer: int, x: str) -> list[str]:
        """The operator's first three inputs: all in one, unless heads are normed before they are rotated."""
        graph, shape, name = self._graph, self._shape, f"layer{layer}"
        qkv = self._linear(f"{name}.qkv", layer, x, "q", "k", "v")
        gains = {part: self._weights.optional_norm(layer, f"{part}_norm") for part in "qk"}
        if gains["q"] is None and gains["k"] is None:
            return [qkv, "", ""]
        widths = np.array([shape.heads, shape.kv_heads, shape.kv_heads], np.int64) * shape.head_dim
        parts = [f"{name}.q", f"{name}.k", f"{name}.v"]
        sizes = graph.constant("qkv.sizes", widths)
        graph.op("Split", [qkv, sizes], name=f"{name}.qkv.split", outputs=parts, axis=-1)
        heads = graph.constant("heads", np.array([0, 0, -1, shape.head_dim], np.int64))
        joined = graph.constant("heads.joined", np.array([0, 0, -1], np.int64))
        for index, part in enumerate("qk"):
            each = graph.op("Reshape", [parts[index], heads], name=f"{parts[index]}.heads")
            normed = self._norm(f"{parts[index]}.norm", each, gains[part])
            parts[index] = graph.op("Reshape", [normed, joined], name=f"{parts[index]}.normed")
        return parts

    def _attention_attributes(self, layer: int) -> _Attributes:
        shape = self._shape
        attributes: _Attributes = {
            "num_heads": shape.heads,
            "kv_num_heads": shape.kv_heads,
            "rotary_interleaved": 0,
            "scale": shape.attention_scale or 1 / math.sqrt(shape.head_dim),
        }
        if shape.window is not None and layer not in shape.full_layers:
            attributes["local_window_size"] = shape.window
        if shape.attention_softcap:
            attributes["softcap"] = shape.attention_softcap
        return attributes

    def _mlp(self, layer: int, x: str) -> str:
        graph, name = self._graph, f"layer{layer}"
        both = self._linear(f"{name}.gate_up", layer, x, "gate", "up")
        halves = graph.constant("ffn.halves", np.array([self._shape.ffn] * 2, np.int64))
        gate, up = f"{name}.gate", f"{name}.up"
        graph.op("Split", [both, halves], name=f"{name}.split", outputs=[gate, up], axis=-1)
        gated = graph.op("Mul", [self._activated(f"{name}.act", gate), up], name=f"{name}.gated")
        return self._linear(f"{name}.down", layer, gated, "down")

    def _activated(self, name: str, x: str) -> str:
        if self._shape.activation == "gelu_tanh":
            return self._graph.op("Gelu", [x], name=name, approximate="tanh")
        if self._graph.half:  # QuickGelu has no kernel for it on the CPU
            share = self._graph.op("Sigmoid", [x], name=f"{name}.share")
            return self._graph.op("Mul", [x, share], name=name)
        return self._graph.microsoft("QuickGelu", [x], name=name, alpha=1.0)  # SiLU

    def _linear(self, name: str, layer: int, x: str, *parts: str) -> str:
        matrices = [self._weights.linear(layer, part) for part in parts]
        biases = [self._weights.bias(layer, part) for part in parts]
        return self._products.linear(name, x, matrices, biases)

    def _head(self, branch: str, residual: str, head: Matrix | None, embedding: Matrix) -> None:
        """Logits of the wanted rows only: they are gathered before the last norm, which is per row."""
        flat = self._graph.constant("flat", np.array([-1, self._shape.hidden], np.int64))
        wanted = [self._wanted_rows(name, x, flat) for name, x in (("branch", branch), ("residual", residual))]
        x, _ = self._add_and_norm(HEAD_INPUT, wanted[0], wanted[1], self._weights.final_norm())
        matrix = embedding if head is None else head
        tied_to = "embed" if head is None and not self._graph.half else None
        logits = "logits.half" if self._graph.half else "logits"
        if not self._shape.logit_softcap:
            self._products.product(logits, x, matrix, tied_to)
        else:
            self._capped(logits, self._products.product("logits.uncapped", x, matrix, tied_to))
        if self._graph.half:
            self._graph.op("Cast", [logits], name="logits", to=onnx.TensorProto.FLOAT)

    def _capped(self, name: str, x: str) -> None:
        graph = self._graph
        cap = graph.constant("logits.cap", np.array(self._shape.logit_softcap, np.float32))
        share = graph.op("Div", [x, cap], name=f"{name}.share")
        bent = graph.op("Tanh", [share], name=f"{name}.bent")
        graph.op("Mul", [bent, cap], name=name)

    def _wanted_rows(self, name: str, x: str, flat: str) -> str:
        rows = self._graph.op("Reshape", [x, flat], name=f"head.{name}.flat")
        return self._graph.op("Gather", [rows, "logit_idx"], name=f"head.{name}", axis=0)
