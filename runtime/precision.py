"""The precisions that an artifact can have, and which one suits a machine."""

from __future__ import annotations

from typing import Literal, TypeAlias

from runtime.config import DecoderShape
from runtime.device import Device, gpu_memory, memory_share
from runtime.errors import ArtifactError
from runtime.estimate import disk_bytes
from runtime.linear_graph import HALF, SERVED, Precision

PrecisionName: TypeAlias = Literal["int4", "int8", "fp16", "fp32", "stored"]
STORED: Literal["stored"] = "stored"
"""Blocks stay as a GGUF file has them."""
CHOICES = ("int4", "int8", "fp16", "fp32")
_SMALL = 1 << 30  # bytes of 8-bit weights below which speed is no reason for 4 bits
_SHARE = 0.7  # of the memory that weights may take; the rest is for the KV cache and others


def computes(precision: PrecisionName, device: Device) -> Precision:
    """How the graph of a precision computes for a device: on CUDA activations are float16 whatever the weights are.

    Raises :class:`ArtifactError` for float32 on CUDA, whose GroupQueryAttention knows float16 and bfloat16 alone.
    """
    if device.kind != "cuda":
        return HALF if precision == "fp16" else SERVED
    if precision == "fp32":
        raise ArtifactError("fp32 is for the CPU: on CUDA attention is computed in fp16, so choose --precision fp16")
    return HALF


def suitable_precision(shape: DecoderShape, device: Device) -> tuple[PrecisionName, str]:
    """The precision for a model of ``shape`` on ``device``, and why, in words to say aloud."""
    if device.kind == "cuda":
        room, half = gpu_memory(device), disk_bytes(shape, "fp16", half=True)
        if half <= room * _SHARE:
            return "fp16", f"{half / 1e9:.1f} GB in fp16 fit the {room / 1e9:.0f} GB of {device}"
        return "int4", f"{half / 1e9:.1f} GB in fp16 are too much for the {room / 1e9:.0f} GB of {device}"
    eight, four = disk_bytes(shape, "int8"), disk_bytes(shape, "int4")
    if eight <= _SMALL:
        return "int8", f"on {device} a model this small ({eight / 1e9:.2f} GB) gains little from 4 bits"
    room = memory_share(1)
    fits = "of" if four <= room * _SHARE else "which is too much for"
    return "int4", f"on {device}, whose memory sets the pace; {four / 1e9:.1f} GB {fits} the {room / 1e9:.0f} GB here"
