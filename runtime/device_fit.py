"""Whether a model fits a GPU before it is loaded there: weights, KV cache, and what computing takes besides.

A GPU's cache is allocated whole, ``context`` tokens for every row and kept prompt, so too much is known beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.artifacts import Manifest
from runtime.config import DecoderShape, EngineConfig
from runtime.cuda_driver import Gpu
from runtime.errors import DeviceFull

_LIBRARIES = 1 << 30
"""Bytes for kernels, cuBLAS's and cuDNN's workspaces, captured graphs and fragmentation: a guess, to be measured."""


@dataclass(frozen=True, slots=True)
class GpuNeeds:
    """What a model takes on a GPU, in bytes. ``slot``: the keys and values of one row or kept prompt.

    ``blocks``: whether its weights are quantised.
    """

    weights: int
    slot: int
    workspace: int
    blocks: bool

    def total(self, slots: int) -> int:
        """With a cache of ``slots`` slots."""
        return self.weights + self.workspace + slots * self.slot

    def room(self, free: int) -> int:
        """How many slots ``free`` bytes have room for; below 0 not even the weights fit."""
        return (free - self.weights - self.workspace) // self.slot


def gpu_needs(weights: int, manifest: Manifest, config: EngineConfig) -> GpuNeeds:
    """The needs of a graph of float16 activations, built by roost, whose weights take ``weights`` bytes."""
    assert manifest.shape is not None
    width = 1 if manifest.kv == "int8" else 2
    return needs_of(manifest.shape, weights, config, width=width, blocks=manifest.precision != "fp16")


def needs_of(shape: DecoderShape, weights: int, config: EngineConfig, *, width: int, blocks: bool) -> GpuNeeds:
    """``width``: bytes of a key's or value's number. ``blocks``: weights are quantised.

    A chunk of many tokens has a quantised matrix written out in float16 first, by MatMulNBits (com.microsoft).
    """
    token = 2 * shape.layers * shape.kv_heads * shape.head_dim * width
    largest = max(shape.vocab, 2 * shape.ffn) * shape.hidden
    logits = 2 * config.rows * shape.vocab * 4
    workspace = _LIBRARIES + logits + (2 * largest if blocks else 0)
    return GpuNeeds(weights, token * min(config.context, shape.context), workspace, blocks)


def kept_that_fit(found: GpuNeeds, gpu: Gpu, config: EngineConfig, *, what: str, capacity: int) -> int:
    """How many prompts can be kept beside all rows; those are given up first.

    Raises :class:`DeviceFull` where the rows alone don't fit, with all the numbers and what to change.
    """
    room = found.room(gpu.free)
    if room >= config.rows:
        return min(config.kept_prompts, room - config.rows)
    cache = config.rows * found.slot
    raise DeviceFull(
        f"{what} doesn't fit cuda:{gpu.index} ({gpu.chip}): it needs {_gb(found.total(config.rows))} and "
        f"{_gb(gpu.free)} of {_gb(gpu.total)} are free. Weights {_gb(found.weights)}, KV cache {_gb(cache)} "
        f"({config.rows} rows of {capacity} tokens), workspace {_gb(found.workspace)}. "
        f"{_advice(room, capacity, found, gpu)}"
    )


def _advice(room: int, capacity: int, found: GpuNeeds, gpu: Gpu) -> str:
    smaller = "" if found.blocks else ", or pull the weights with --precision int4"
    if room >= 1:
        return f"Type --rows {room}, or a shorter --context{smaller}"
    spare = (gpu.free - found.weights - found.workspace) * capacity // found.slot
    if spare >= 1:
        return f"Type --rows 1 --context {spare}{smaller}"
    return f"Use --device cpu{smaller}"


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
