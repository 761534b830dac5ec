"""A decoder made elsewhere whose cache grows by concatenation: a run gives new keys and values, longer by its tokens.

The cache of a row is a list of such outputs, which nobody changes: a move hands on a reference. Rows run one by one,
and prompts in pieces whose bounds are multiples of a fixed width, whatever chunks the scheduler makes of them. So what
a row computes depends on its own tokens alone: the law of the same words under any load holds by construction. A run
copies its row's whole cache, so this is slower than a cache in place, and one row is held twice while it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.device import Device, usable_cores
from runtime.errors import ArtifactError
from runtime.feeds import feeds
from runtime.graph_interface import LOGITS, GraphInterface
from runtime.scheduler import CacheOp, Move, Release, Span, StepPlan
from runtime.session import open_session

_PIECE = 64  # tokens; as many as a chunk beside streams has by default


@dataclass(frozen=True, slots=True)
class _Row:
    """The tokens of a slot, and keys and values of the first ``length`` of them; the others are still to be read.

    The arrays in ``cache`` may be longer than ``length``.
    """

    tokens: tuple[int, ...] = ()
    length: int = 0
    cache: tuple[Any, ...] = ()

    def until(self, length: int) -> _Row:
        """The same up to token ``length``; copies nothing."""
        return replace(self, tokens=self.tokens[:length], length=min(self.length, length))


class ConcatSession:
    """One such decoder, loaded. Used by one thread at a time."""

    takes_adapters = False
    needs_companion = False

    def __init__(
        self, model: Path, interface: GraphInterface, *, capacity: int, device: Device, threads: int | None = None
    ) -> None:
        self._session = open_session(model, device, threads or usable_cores())
        self._interface = interface
        self.capacity = capacity
        self._rows: dict[int, _Row] = {}
        type_ = np.dtype(interface.cache_type)
        self._nothing = tuple(_value(np.empty(tensor.shape, type_)) for tensor in interface.cache)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values that one token takes over all layers."""
        return self._interface.kv_bytes_per_token

    def run(self, plan: StepPlan) -> NDArray[np.float32]:
        """Execute ``plan``: cache operations, then each row on its own.

        Logits float32 [sum of ``wanted`` over plan.sampled, vocab].
        """
        for op in plan.cache_ops:
            self._apply(op)
        parts = [self._decode(span) for span in plan.decode]
        if plan.chunk is not None:
            parts.append(self._read(plan.chunk))
        return np.concatenate(parts)

    def close(self) -> None:
        """Release the model and the cache."""
        self._rows.clear()
        del self._session

    def _apply(self, op: CacheOp) -> None:
        match op:
            case Move(source, target, length):
                self._rows[target] = self._rows[source].until(length)
            case Release(slot, 0):
                self._rows.pop(slot, None)
            case Release(slot, start) if slot in self._rows:
                self._rows[slot] = self._trimmed(self._rows[slot].until(start))  # what it gives back is freed now

    def _decode(self, span: Span) -> NDArray[np.float32]:
        row = self._rows[span.slot].until(span.start)
        row, _ = self._advance(
            row, len(row.tokens) - row.length
        )  # the end of a prompt whose next token was known already
        row, logits = self._advance(replace(row, tokens=row.tokens + span.tokens), len(span.tokens), span.wanted)
        self._rows[span.slot] = row
        return logits

    def _read(self, span: Span) -> NDArray[np.float32]:
        """Read a prompt on by whole pieces; what is left of it waits for its end.

        What begins like an earlier prompt goes on from the last bound of pieces that both have.
        """
        held = self._rows.get(span.slot, _Row()).until(span.start)
        row = replace(held, tokens=held.tokens + span.tokens, length=held.length // _PIECE * _PIECE)
        while len(row.tokens) - row.length > _PIECE or (len(row.tokens) - row.length == _PIECE and not span.samples):
            row, _ = self._advance(row, _PIECE)
        logits = np.empty((0, self._interface.vocab), np.float32)
        if span.samples:
            row, logits = self._advance(row, len(row.tokens) - row.length, span.wanted)
        self._rows[span.slot] = row
        return logits

    def _advance(self, row: _Row, count: int, wanted: int = 0) -> tuple[_Row, NDArray[np.float32]]:
        """Run the next ``count`` tokens of ``row``: the row as it is then, and the last ``wanted`` of their logits."""
        if wanted > 1 and self._interface.last_only:
            row, _ = self._advance(row, count - wanted)
            singly = []
            for _ in range(wanted):
                row, logits = self._advance(row, 1, 1)
                singly.append(logits)
            return row, np.concatenate(singly)
        if not count:
            return row, np.empty((0, self._interface.vocab), np.float32)
        end = row.length + count
        span = Span(0, 0, row.length, row.tokens[row.length : end], samples=wanted > 0, drafted=max(0, wanted - 1))
        logits, *cache = self._forward(span, self._trimmed(row).cache or self._nothing)
        if cache[0].shape()[self._interface.axis] != end:
            raise ArtifactError("the graph gives the keys and values of new tokens alone, which isn't served")
        told = logits.numpy().reshape(-1, self._interface.vocab)
        return replace(row, length=end, cache=tuple(cache)), told[len(told) - wanted :].astype(np.float32, copy=False)

    def _forward(self, span: Span, cache: tuple[Any, ...]) -> list[Any]:
        binding = self._session.io_binding()
        for name, values in feeds(self._interface, (span,)).items():
            binding.bind_cpu_input(name, values)
        binding.bind_output(LOGITS, "cpu")
        for tensor, past in zip(self._interface.cache, cache, strict=True):
            binding.bind_ortvalue_input(tensor.past, past)
            binding.bind_output(tensor.present, "cpu")
        self._session.run_with_iobinding(binding)
        outputs: list[Any] = binding.get_outputs()
        return outputs

    def _trimmed(self, row: _Row) -> _Row:
        """``row`` with arrays that are no longer than it says."""
        axis = self._interface.axis
        if not row.length:
            return replace(row, cache=())
        if row.cache[0].shape()[axis] == row.length:
            return row
        kept = (slice(None),) * axis + (slice(row.length),)
        return replace(row, cache=tuple(_value(value.numpy()[kept].copy()) for value in row.cache))


def _value(values: NDArray[Any]) -> Any:
    """``values`` as ONNX Runtime holds them, in the same memory."""
    import onnxruntime

    return onnxruntime.OrtValue.ortvalue_from_numpy(values)
