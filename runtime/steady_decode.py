"""Decode steps of one shape at fixed addresses, whoever takes part: what CUDA needs to round alike, and to be captured.

Kernels on CUDA are chosen by the number of rows, so a row's bits would depend on its company. ``fixed``: every step has
all rows. Rows without a sequence run idle and write where their slot would write next anyway, which nobody has read and
whoever comes overwrites. Not fixed: a shape for each number of rows. Since inputs, cache and logits stay where they
are, a step can be captured once as a CUDA graph and replayed. Runs on the CPU too, where it is tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.kv_cache import Cache
from runtime.ort_values import empty, graph_run
from runtime.scheduler import CacheOp, Move, Span


class SteadyDecode:
    """Decode steps over ``session``, with ``rows`` rows at most. ``index``: the CUDA device, ``None`` for the CPU.

    ``captures``: whether steps are replayed from CUDA graphs; may be changed at any time.
    """

    def __init__(
        self, session: Any, cache: Cache, *, rows: int, capacity: int, index: int | None, fixed: bool, captures: bool
    ) -> None:
        self._session, self._cache, self._index = session, cache, index
        self._rows, self._capacity, self._fixed = rows, capacity, fixed
        self.captures = captures
        self._shapes: dict[int, _Shape] = {}
        self._ends = [0] * rows  # where each slot would be written next

    def run(self, spans: Sequence[Span]) -> NDArray[np.float32]:
        """One token for each of ``spans``; logits float32 [those that sample, vocab]."""
        rows = self._rows if self._fixed else 1 + max(span.slot for span in spans)
        shape = self._shapes.get(rows)
        if shape is None:
            shape = self._shapes[rows] = _Shape(self._session, self._cache, rows, self._capacity, self._index)
        ids = np.zeros((rows, 1), np.int64)
        places = np.array(self._ends[:rows], np.int32)
        for span in spans:
            ids[span.slot], places[span.slot] = span.tokens[0], span.start
        logits = shape.run(ids, np.minimum(places, self._capacity - 1), capture=self.captures)
        for span in spans:
            self.wrote(span)
        return logits[[span.slot for span in spans if span.samples]]

    def wrote(self, span: Span) -> None:
        """Take note of a step that filled a slot."""
        if span.slot < self._rows:
            self._ends[span.slot] = span.start + len(span.tokens)

    def moved(self, op: CacheOp) -> None:
        """Take note of a copy or a release."""
        slot, end = (op.target, op.length) if isinstance(op, Move) else (op.slot, op.start)
        if slot < self._rows:
            self._ends[slot] = end if isinstance(op, Move) else min(end, self._ends[slot])

    def close(self) -> None:
        """Let go of the session and of all buffers."""
        self._shapes.clear()
        del self._session


class _Shape:
    """Buffers and bindings for steps of ``rows`` rows, made once."""

    def __init__(self, session: Any, cache: Cache, rows: int, capacity: int, index: int | None) -> None:
        self._session = session
        self._ids = empty((rows, 1), np.int64, index=index)
        self._lengths = empty((rows,), np.int32, index=index)
        self._wanted = empty((rows,), np.int64, index=index)
        self._wanted.update_inplace(np.arange(rows))
        self._logits = empty((rows, int(session.get_outputs()[0].shape[1])), np.float32, index=index)
        # On the host, where the operator reads it, and a constant: what depends on it is captured with the rest.
        self._total = np.array(capacity, np.int32)
        self._binding = self._bound(cache.places(0, rows))
        self._captured: Any = None if index is None else graph_run(rows)
        self._plain: Any = None if index is None else graph_run(-1)

    def run(self, ids: NDArray[np.int64], lengths: NDArray[np.int32], *, capture: bool) -> NDArray[np.float32]:
        """Logits [rows, vocab], perhaps in a buffer that the next run overwrites."""
        self._ids.update_inplace(ids)
        self._lengths.update_inplace(lengths)
        self._session.run_with_iobinding(self._binding, self._captured if capture else self._plain)
        return self._logits.numpy()

    def _bound(self, places: dict[str, Any]) -> Any:
        binding = self._session.io_binding()
        inputs = {"input_ids": self._ids, "seqlens_k": self._lengths, "logit_idx": self._wanted}
        for name, tensor in inputs.items():
            binding.bind_ortvalue_input(name, tensor)
        binding.bind_input("total_seq", "cpu", 0, np.int32, (), self._total.ctypes.data)
        binding.bind_ortvalue_output("logits", self._logits)
        for name, place in places.items():
            binding.bind_input(name, *place)
            binding.bind_output(name.replace("past.", "present."), *place)
        return binding
