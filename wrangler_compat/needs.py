"""What a model would take on this machine, for ``roost models show``: on the CPU, and on each GPU that is here."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from catalog import ModelCard
from runtime import cuda_driver
from runtime.artifacts import ArtifactStore, artifact_key
from runtime.config import EngineConfig
from runtime.device import memory_share
from runtime.device_fit import needs_of
from runtime.errors import DeviceUnavailable
from runtime.estimate import Needs, disk_bytes, memory_bandwidth, needs, parameters, parameters_in_name

_WRITES = "Text Generation"  # what tokens per second mean something for
_ON_GPU = {"int4": 5.0, "fp16": 16.0}  # bits per weight where only their number is known


def needs_here(card: ModelCard, store: ArtifactStore) -> list[dict[str, Any]]:
    """What it takes in each precision; nothing where its size isn't known."""
    own = store.find(artifact_key(card.name))
    if card.task.name == _WRITES and own and own.manifest.shape is None:  # made elsewhere: it comes in one precision
        return [asdict(Needs(own.manifest.precision, own.size, own.size, memory_bandwidth() / own.size))]
    weights = _parameters(card, store)
    return [] if weights is None else [asdict(found) for found in needs(weights, memory_bandwidth())]


def sentence(found: dict[str, Any]) -> str:
    """One of :func:`needs_here`."""
    disk, memory, room = found["disk"] / 1e9, found["memory"] / 1e9, memory_share(1) / 1e9
    fits = "" if memory < room else f", which this machine's {room:.0f} GB don't hold"
    return f"{disk:.1f} GB of disk, {memory:.1f} GB of memory{fits}; {found['speed']:.1f} tokens/s at most on the CPU"


def needs_on_gpus(card: ModelCard, store: ArtifactStore) -> list[dict[str, Any]]:
    """What it takes on each GPU, in the precisions that CUDA has, in bytes; nothing where there is no GPU.

    The cache is counted where the model's shape is known, that is once its weights are here.
    """
    weights = _parameters(card, store)
    if weights is None:
        return []
    try:
        there = cuda_driver.gpus()
    except DeviceUnavailable:
        return []
    own, config = store.find(artifact_key(card.name)), EngineConfig()
    found = []
    for gpu in there:
        for precision, bits in _ON_GPU.items():
            entry = {"device": f"cuda:{gpu.index}", "chip": gpu.chip, "free": gpu.free, "precision": precision}
            if own is None or own.manifest.shape is None:
                found.append({**entry, "weights": int(weights * bits / 8)})
                continue
            shape = own.manifest.shape
            size = disk_bytes(shape, precision, half=True)
            taken = needs_of(shape, size, config, width=2, blocks=precision != "fp16")
            found.append({**entry, "weights": size, "kv": taken.slot * config.rows, "workspace": taken.workspace})
    return found


def gpu_sentence(found: dict[str, Any]) -> str:
    """One of :func:`needs_on_gpus`."""
    parts = [f"{found['weights'] / 1e9:.1f} GB of weights"]
    if "kv" in found:
        config = EngineConfig()
        rows = f"{config.rows} rows of at most {config.context} tokens"
        parts += [f"{found['kv'] / 1e9:.1f} of KV cache ({rows})", f"{found['workspace'] / 1e9:.1f} of workspace"]
    needed = found["weights"] + found.get("kv", 0) + found.get("workspace", 0)
    fits = "fits" if needed <= found["free"] else "doesn't fit"
    return f"{', '.join(parts)}; {fits} the {found['free'] / 1e9:.1f} GB free on {found['chip']}"


def _parameters(card: ModelCard, store: ArtifactStore) -> int | None:
    if card.task.name != _WRITES:
        return None
    own = store.find(artifact_key(card.name))
    return parameters(own.manifest.shape) if own and own.manifest.shape else parameters_in_name(card.name)
