"""Writes an encoder of BERT's kind as an ONNX model.

Inputs: ``input_ids`` int64 [B, S], rows filled up at their end with any token; ``lengths`` int32 [B], the tokens of a
row that count. Output: ``hidden`` float32 [B, S, hidden], a vector for each token; those of the filling mean nothing.

Operators are ONNX Runtime's (com.microsoft: MultiHeadAttention, SkipLayerNormalization, BiasGelu).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from runtime.config import EncoderShape
from runtime.encoder_weights import EncoderWeights
from runtime.graph_writer import GraphWriter
from runtime.linear_graph import SERVED, Products
from runtime.quantization import BLOCK, Dense, Floats, Int8
from runtime.rounding import to_int8

IDS, LENGTHS, HIDDEN = "input_ids", "lengths", "hidden"


def write_encoder(path: Path, weights: EncoderWeights, *, eight_bits: bool = False) -> None:
    """Write ``path`` and ``path`` + ``.data``; ``eight_bits``: matrices in blocks of 8 bits, else float32."""
    with path.with_name(path.name + ".data").open("wb") as data:
        writer = GraphWriter(data, path.name + ".data")
        _Encoder(writer, weights, eight_bits=eight_bits).build()
    onnx.save(_model(writer, weights.shape), path)


def _model(writer: GraphWriter, shape: EncoderShape) -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    inputs = [info(IDS, TensorProto.INT64, ["B", "S"]), info(LENGTHS, TensorProto.INT32, ["B"])]
    outputs = [info(HIDDEN, TensorProto.FLOAT, ["B", "S", shape.hidden])]
    return writer.whole("encoder", inputs, outputs)


class _Encoder:
    """Lays down the encoder, node by node, in the order in which it computes."""

    def __init__(self, writer: GraphWriter, weights: EncoderWeights, *, eight_bits: bool) -> None:
        self._graph = writer
        self._weights = weights
        self._shape = weights.shape
        self._eight_bits = eight_bits
        self._products = Products(writer, SERVED)

    def build(self) -> None:
        x = self._embed()
        for layer in range(self._shape.layers):
            x = self._layer(layer, x)

    def _embed(self) -> str:
        graph = self._graph
        zero, one = (graph.constant(name, np.array([value], np.int64)) for name, value in (("zero", 0), ("one", 1)))
        size = graph.op("Shape", [IDS], name="size")
        length = graph.op("Slice", [size, one, graph.constant("two", np.array([2], np.int64))], name="length")
        table = graph.constant("places.w", self._weights.places())
        places = graph.op("Slice", [table, zero, length, zero], name="places")
        both = graph.op("Add", [self._words(), places], name="embedded")
        gain, shift = self._norm_constants("embed.norm", self._weights.first_norm())
        epsilon = self._shape.norm_epsilon
        return graph.op("LayerNormalization", [both, gain, shift], name="embed.norm", axis=-1, epsilon=epsilon)

    def _words(self) -> str:
        graph, table = self._graph, self._matrix(self._weights.words())
        if isinstance(table, Dense):
            return graph.op("Gather", [graph.constant("embed.w", table.values), IDS], name="embed")
        inputs = [graph.constant("embed.q", table.unsigned()), IDS, graph.constant("embed.s", table.scales)]
        return graph.microsoft(
            "GatherBlockQuantized", inputs, name="embed", bits=8, block_size=BLOCK, gather_axis=0, quantize_axis=1
        )

    def _layer(self, layer: int, x: str) -> str:
        name = f"layer{layer}"
        attended = self._product(layer, "o", self._attention(layer, x))
        x = self._add_and_norm(f"{name}.norm1", layer, "attention_norm", attended, x, "o")
        fed = self._product(layer, "down", self._activated(layer, self._product(layer, "up", x)))
        last = layer == self._shape.layers - 1
        return self._add_and_norm(HIDDEN if last else f"{name}.norm2", layer, "ffn_norm", fed, x, "down")

    def _attention(self, layer: int, x: str) -> str:
        name = f"layer{layer}.attention"
        parts = [self._product(layer, part, x) for part in "qkv"]
        biases = np.concatenate([self._weights.bias(layer, part) for part in "qkv"])
        inputs = [*parts, self._graph.constant(f"{name}.b", biases), LENGTHS]
        return self._graph.microsoft("MultiHeadAttention", inputs, name=name, num_heads=self._shape.heads)

    def _activated(self, layer: int, x: str) -> str:
        graph, name = self._graph, f"layer{layer}.act"
        bias = graph.constant(f"layer{layer}.up.b", self._weights.bias(layer, "up"))
        if self._shape.activation != "relu":
            kind = "BiasGelu" if self._shape.activation == "gelu" else "FastGelu"
            return graph.microsoft(kind, [x, bias], name=name)
        return graph.op("Relu", [graph.op("Add", [x, bias], name=f"{name}.biased")], name=name)

    def _add_and_norm(self, name: str, layer: int, norm: str, branch: str, residual: str, part: str) -> str:
        """LayerNorm of ``residual`` + ``branch`` + the bias of ``part``, which made the branch."""
        gain, shift = self._norm_constants(name, self._weights.norm(layer, norm))
        bias = self._graph.constant(f"{name}.bias", self._weights.bias(layer, part))
        inputs = [branch, residual, gain, shift, bias]
        return self._graph.microsoft("SkipLayerNormalization", inputs, name=name, epsilon=self._shape.norm_epsilon)

    def _norm_constants(self, name: str, values: tuple[Floats, Floats]) -> list[str]:
        return [self._graph.constant(f"{name}.{kind}", part) for kind, part in zip(("w", "b"), values, strict=True)]

    def _product(self, layer: int, part: str, x: str) -> str:
        """Without its bias, which whoever comes next adds."""
        return self._products.product(f"layer{layer}.{part}", x, self._matrix(self._weights.matrix(layer, part)))

    def _matrix(self, values: Floats) -> Dense | Int8:
        return to_int8(values) if self._eight_bits and values.shape[1] % BLOCK == 0 else Dense(values)
