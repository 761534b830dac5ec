"""A decoder made elsewhere whose attention updates its cache in place, such as onnxruntime-genai's builder makes.

A mask tells it how long each row is, and it may not be told which logits are wanted; all else is as in
:class:`DecoderSession`, and so is the law that a row's result never depends on the others.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.feeds import feeds
from runtime.graph_interface import LOGITS, GraphInterface
from runtime.kv_cache import SlabSpec
from runtime.scheduler import Span
from runtime.session import DecoderSession


class MaskedSession(DecoderSession):
    """One such decoder, loaded; ``options`` are :class:`DecoderSession`'s.

    Rows of a step are padded on their right up to the longest.
    """

    takes_adapters = False

    def __init__(self, model: Path, interface: GraphInterface, **options: Any) -> None:
        self._interface = interface
        self._presents = {tensor.past: tensor.present for tensor in interface.cache}
        super().__init__(model, **options)

    def _specs(self) -> dict[str, SlabSpec]:
        dtype = np.dtype(self._interface.cache_type)
        return {tensor.past: SlabSpec(tensor.shape[1], tensor.shape[3], dtype.type) for tensor in self._interface.cache}

    def _present_of(self, past: str) -> str:
        return self._presents[past]

    def _forward(self, spans: tuple[Span, ...]) -> NDArray[np.float32]:
        most = max(span.wanted for span in spans)
        if self._interface.last_only and most > 1:
            return np.concatenate([self._forward((single,)) for span in spans for single in _singly(span)])
        inputs = feeds(self._interface, spans)
        told = max(1, most) if self._interface.keeps else len(spans[0].tokens)
        logits = np.empty(
            (len(spans), 1 if self._interface.last_only else told, self._interface.vocab), self._interface.logits_type
        )
        binding = self._binding(spans)
        for name, values in inputs.items():
            binding.bind_input(name, "cpu", 0, values.dtype.type, values.shape, values.ctypes.data)
        binding.bind_output(LOGITS, "cpu", 0, logits.dtype.type, logits.shape, logits.ctypes.data)
        # The binding holds bare addresses: `inputs` and `logits` must live until the run is over.
        self._session.run_with_iobinding(binding)
        wanted = [logits[row, logits.shape[1] - span.wanted :] for row, span in enumerate(spans)]
        return np.concatenate(wanted).astype(np.float32, copy=False)


def _singly(span: Span) -> list[Span]:
    """The tokens of ``span`` one by one, so that a graph that tells of the last one alone tells of each wanted."""
    unwanted = len(span.tokens) - span.wanted
    return [
        replace(span, start=span.start + place, tokens=(token,), samples=place >= unwanted, drafted=0)
        for place, token in enumerate(span.tokens)
    ]
