"""An 8-bit KV cache: scales measured on a text, then written into a finished decoder. A quarter of float32's memory.

GroupQueryAttention (com.microsoft) rounds keys, after their rotation, and values to int8 with one constant scale for
each channel of each head; they differ between channels by more than an order of magnitude.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from runtime.device import Device
from runtime.scheduler import Span, StepPlan
from runtime.session import DecoderSession

Scales = Mapping[str, NDArray[np.float32]]
"""By name of a cache input (``past.3.k``): the scales, float32 ``[kv_heads * head_dim]``."""

_HEADROOM = 1.1  # other texts reach further than the calibration's
_K_SCALE, _V_SCALE = 12, 13  # places among the operator's inputs


def calibration_text() -> str:
    """Prose, code, figures and other languages; written for this purpose."""
    return Path(__file__).with_name("calibration.txt").read_text(encoding="utf-8")


def calibrate(decoder: Path, tokens: Sequence[int]) -> Scales:
    """The scales that hold what ``decoder``, whose cache is of floats, keeps while it reads ``tokens``."""
    session = DecoderSession(decoder, slots=1, capacity=len(tokens), device=Device(), deterministic=False, frugal=True)
    try:
        session.run(StepPlan((), (), Span(0, 0, 0, tuple(tokens), samples=True)))
        return {name: _scales(kept) for name, kept in session.kept(0, len(tokens)).items()}
    finally:
        session.close()


def quantise_cache(decoder: Path, scales: Scales) -> None:
    """Rewrite ``decoder`` so that its cache is int8; its data file stays as it is."""
    model = onnx.load(decoder, load_external_data=False)
    graph = model.graph
    for node in graph.node:
        if node.op_type == "GroupQueryAttention":
            past = {
                side: next(name for name in node.input if name.startswith("past.") and name.endswith(side))
                for side in "kv"
            }
            inputs = [*node.input, *[""] * (_V_SCALE + 1 - len(node.input))]
            for place, side in ((_K_SCALE, "k"), (_V_SCALE, "v")):
                inputs[place] = f"{past[side]}.scale"
                graph.initializer.append(numpy_helper.from_array(scales[past[side]], inputs[place]))
            node.input[:] = inputs
            quantised = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
            node.attribute.extend(helper.make_attribute(name, value) for name, value in quantised.items())
    for entry in (*graph.input, *graph.output):
        if entry.name.startswith(("past.", "present.")):
            entry.type.tensor_type.elem_type = TensorProto.INT8
    onnx.save(model, decoder)


def _scales(kept: NDArray[np.float32]) -> NDArray[np.float32]:
    """``kept`` is ``[kv_heads, tokens, head_dim]``."""
    largest = np.abs(kept).max(axis=1).ravel() * np.float32(_HEADROOM / 127)
    scales: NDArray[np.float32] = np.maximum(largest, np.float32(1e-8))
    return scales
