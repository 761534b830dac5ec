"""Decoders and adapters that tests put together: sessions over tiny checkpoints, and rows with adapters in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from runtime.adapter import Adapter
from runtime.adapters import PeftAdapter
from runtime.artifacts import ArtifactStore
from runtime.checkpoint_weights import CheckpointWeights
from runtime.decoder_graph import write_decoder
from runtime.device import Device
from runtime.linear_graph import EXACT
from runtime.precision import PrecisionName, computes
from runtime.quantized_weights import QuantizedWeights
from runtime.scheduler import Span, StepPlan
from runtime.session import DecoderSession
from runtime.stand_in import find_stand_in
from tests.runtime.reference.smollm2_adapter import KIND, write_smollm2_adapter
from tests.runtime.reference.tiny_adapters import Kind, write_tiny_adapter
from tests.runtime.reference.tiny_checkpoints import write_checkpoint

Floats = NDArray[np.float32]
CAPACITY = 96


def write_tiny_decoder(folder: Path, name: str, precision: PrecisionName | None = None) -> Path:
    """The graph of the tiny checkpoint ``name``, exact where no precision is named."""
    write_checkpoint(folder, name)
    weights = CheckpointWeights(folder)
    path = folder / "decoder.onnx"
    if precision is None:
        write_decoder(path, weights, EXACT)
    else:
        rounded = QuantizedWeights(weights, precision, lambda _parameters: None)
        write_decoder(path, rounded, computes(precision, Device()))
    return path


def open_session(decoder: Path, *, slots: int = 8, threads: int = 1) -> DecoderSession:
    return DecoderSession(decoder, slots=slots, capacity=CAPACITY, device=Device(), threads=threads)


def tiny_adapter(folder: Path, checkpoint: str, kind: str, dtype: DTypeLike = np.float32) -> Adapter:
    """The adapter ``kind`` of a tiny checkpoint, whose configuration lies in ``folder``."""
    files = folder / f"{kind}-adapter"
    write_tiny_adapter(files, checkpoint, kind)
    shape = CheckpointWeights(folder).shape
    return PeftAdapter.read(files).fit(shape, key=kind, name=kind, dtype=dtype)


def read(
    session: DecoderSession, tokens: list[int], start: int, end: int, adapter: Adapter | None, *, row: int = 0
) -> Floats:
    """The logits after token ``end`` - 1, reading the tokens from ``start`` as one chunk."""
    chunk = Span(row, row, start, tuple(tokens[start:end]), samples=True, adapter=adapter)
    logits: Floats = session.run(StepPlan((), (), chunk))[0]
    return logits


def write(session: DecoderSession, rows: list[tuple[int, int, Adapter | None]]) -> Floats:
    """A decode step of rows that are each a place, a token and an adapter: logits [rows, vocab]."""
    spans = (Span(row, row, place, (token,), True, adapter=adapter) for row, (place, token, adapter) in enumerate(rows))
    return session.run(StepPlan((), tuple(spans), None))


def smollm2_adapter(folder: Path, seed: int, kind: Kind = KIND) -> Adapter:
    """A random adapter for the stand-in, whose files are written into ``folder``."""
    write_smollm2_adapter(folder, seed=seed, kind=kind)
    stand_in = find_stand_in(ArtifactStore())
    assert stand_in is not None
    return PeftAdapter.read(folder).fit(stand_in.manifest.shape, key=str(folder), name=folder.name)
