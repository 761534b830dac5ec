"""A decoder in ONNX Runtime with its KV cache: executes a step plan, in place.

A step binds the cache slots it touches as past *and* present, so nothing is
copied from token to token.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime.adapter import Adapter
from runtime.cuda_provider import PROVIDER, prepare, provider, provider_fault
from runtime.device import Device, require_onnxruntime, usable_cores
from runtime.device_cache import DeviceCache
from runtime.errors import ArtifactError, DeviceUnavailable
from runtime.kv_cache import Cache, KVCache, SlabSpec
from runtime.lora_inputs import LoraInputs
from runtime.ort_values import graph_run
from runtime.scheduler import Span, StepPlan
from runtime.steady_decode import SteadyDecode

if TYPE_CHECKING:
    import onnxruntime

_QUIET = 4  # of ONNX Runtime's severities only what ends the process: errors are raised, and told by whoever catches
_COMPANIONS = 1  # slots in front of the scheduler's
_COMPANION = Span(-1, -_COMPANIONS, 0, (0,), samples=False)
_PROBE = 24  # tokens read before the probe of lone rows
_KV_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int8)": np.int8}


class DecoderSession:
    """One decoder, loaded, with ``slots`` slots of ``capacity`` tokens. Used by one thread at a time.

    A step of a single row may take other kernels than one of several, with other rounding. Where a probe at loading
    time finds that so, a lone row runs with an idle companion, so that a row's result never depends on who else is
    there. The companion lives in a slot of its own in front of the others. Not ``deterministic``: it never does.
    ``frugal``: weights stay in the mapped file, neither packed nor converted ahead, which takes little memory and more
    time: for reading a text once.

    On CUDA the cache lies on the device and decode steps are steady (:mod:`runtime.steady_decode`) over ``rows`` slots,
    by default all; ``capture``: as CUDA graphs. ``steady`` makes them so elsewhere.
    """

    def __init__(
        self,
        model: Path,
        *,
        slots: int,
        capacity: int,
        device: Device,
        threads: int | None = None,
        deterministic: bool = True,
        frugal: bool = False,
        rows: int | None = None,
        capture: bool = False,
        steady: bool = False,
    ) -> None:
        index = device.index if device.kind == "cuda" else None
        threads = threads or usable_cores()
        self._open = functools.partial(open_session, model, device, threads, frugal=frugal, capture=capture)
        self._session = self._open()
        self._model, self._deterministic = model, deterministic
        self._lora: LoraInputs | None = None  # until somebody asks for an adapter
        self.capacity = capacity
        self._front = 0 if steady or index is not None else _COMPANIONS
        slots += self._front
        self._cache: Cache = (
            KVCache(self._specs(), slots=slots, capacity=capacity)
            if index is None
            else DeviceCache(self._specs(), slots=slots, capacity=capacity, index=index)
        )
        self._uncaptured = graph_run(-1) if capture else None
        self.steady: SteadyDecode | None = None
        if self._front == 0:
            self.steady = SteadyDecode(
                self._session,
                self._cache,
                rows=rows or slots,
                capacity=capacity,
                index=index,
                fixed=deterministic,
                captures=capture,
            )
        self._bindings: dict[tuple[int, int], Any] = {}
        self._vocab = int(self._session.get_outputs()[0].shape[-1])
        self.needs_companion = self._adapted_need_companion = False
        self.needs_companion = self.steady is None and deterministic and self._lone_rows_differ()

    @functools.cached_property
    def takes_adapters(self) -> bool:
        """Whether rows may have adapters: where the graph is one that roost wrote, and decode steps aren't steady."""
        if self.steady is not None:
            return False
        from runtime.lora_graph import takes_adapters  # brings onnx

        return takes_adapters(self._model)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values that one token takes over all layers."""
        return self._cache.bytes_per_token

    def run(self, plan: StepPlan) -> NDArray[np.float32]:
        """Execute ``plan``: cache operations, decode batch, chunk.

        Logits float32 [sum of ``wanted`` over plan.sampled, vocab].
        """
        self._take_in([span.adapter for span in plan.spans if span.adapter is not None])
        for op in plan.cache_ops:
            self._cache.apply(op, offset=self._front)
            if self.steady is not None:
                self.steady.moved(op)
        if any(span.drafted for span in plan.decode):  # several tokens of several rows can't share a step
            parts = [self._forward((span,)) for span in plan.decode]
        else:
            parts = [self._decode(plan.decode)] if plan.decode else []
        if plan.chunk is not None:
            parts.append(self._read(plan.chunk))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def kept(self, slot: int, tokens: int) -> dict[str, NDArray[Any]]:
        """A copy of a slot's first ``tokens`` keys and values by input name: ``[kv_heads, tokens, head_dim]``."""
        return self._cache.kept(slot + self._front, tokens)

    def close(self) -> None:
        """Release the model and the cache."""
        self._bindings.clear()
        if self.steady is not None:
            self.steady.close()
        self._cache.close()
        self.__dict__.pop("_session", None)  # gone already where it couldn't be opened anew

    def _specs(self) -> dict[str, SlabSpec]:
        """A slab for every ``past.*`` input."""
        entries = [entry for entry in self._session.get_inputs() if entry.name.startswith("past.")]
        return {entry.name: SlabSpec(entry.shape[1], entry.shape[3], _KV_TYPES[entry.type]) for entry in entries}

    def _take_in(self, adapters: list[Adapter]) -> None:
        """Let the graph take ``adapters`` where it doesn't yet. What is in the cache stays, and so do plain rows' bits.

        The weights are read anew, and never held twice.
        """
        widths = self._lora.widths if self._lora is not None else {}
        if widths.keys() >= {kind for adapter in adapters for kind in adapter.widths}:
            return
        from runtime.lora_graph import with_adapters

        for adapter in adapters:
            widths = {**widths, **adapter.widths}
        graph = with_adapters(self._model, widths)
        self._bindings.clear()
        del self._session
        try:
            self._session = self._open(graph)
        except ArtifactError:
            self._session, self._lora = self._open(), None
            raise
        self._lora = LoraInputs(self._session.get_inputs(), widths)
        self._adapted_need_companion = self._deterministic and self._lone_rows_differ(adapters[0])

    def _read(self, chunk: Span) -> NDArray[np.float32]:
        """A chunk; where the decode is steady one that samples, always, for a head of no rows is untried on CUDA."""
        if self.steady is None or chunk.samples:
            return self._forward((chunk,))
        return self._forward((replace(chunk, samples=True),))[:0]

    def _decode(self, spans: tuple[Span, ...]) -> NDArray[np.float32]:
        if self.steady is not None:
            return self.steady.run(spans)
        lone = len(spans) == 1 and (
            self.needs_companion or (self._adapted_need_companion and spans[0].adapter is not None)
        )
        return self._forward((_COMPANION, *spans) if lone else spans)

    def _lone_rows_differ(self, adapter: Adapter | None = None) -> bool:
        """Whether a decode step of one row gives other bits than the same row in a step of two."""
        cache, self._cache = self._cache, KVCache(self._specs(), slots=1 + _COMPANIONS, capacity=_PROBE)
        self._bindings.clear()
        try:
            self._forward((Span(0, 0, 0, tuple(range(1, _PROBE)), samples=False, adapter=adapter),))
            asks = Span(0, 0, _PROBE - 1, (1,), samples=True, adapter=adapter)
            return not np.array_equal(self._forward((asks,)), self._forward((_COMPANION, asks)))
        finally:
            self._bindings.clear()
            self._cache = cache

    def _forward(self, spans: tuple[Span, ...]) -> NDArray[np.float32]:
        """One run over ``spans``, which hold consecutive slots and as many tokens each."""
        length = len(spans[0].tokens)
        ids = np.array([span.tokens for span in spans], np.int64)
        lengths = np.array([span.start + length - 1 for span in spans], np.int32)
        total = np.array(lengths.max() + 1, np.int32)
        ends = ((row * length + length, span.wanted) for row, span in enumerate(spans))
        wanted = np.array([place for end, count in ends for place in range(end - count, end)], np.int64)
        logits = np.empty((len(wanted), self._vocab), np.float32)
        binding = self._binding(spans)
        inputs: dict[str, NDArray[Any]] = {
            "input_ids": ids,
            "seqlens_k": lengths,
            "total_seq": total,
            "logit_idx": wanted,
        }
        if self._lora is not None:
            inputs |= self._lora.bind(binding, spans)
        for name, values in inputs.items():
            binding.bind_input(name, "cpu", 0, values.dtype.type, values.shape, values.ctypes.data)
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        # The binding holds bare addresses: `inputs` and `logits` must live until the run is over.
        self._session.run_with_iobinding(binding, self._uncaptured)
        if self.steady is not None:
            for span in spans:
                self.steady.wrote(span)
        return logits

    def _binding(self, spans: tuple[Span, ...]) -> Any:
        """A binding whose pasts and presents are the slots of ``spans``."""
        return self._bind_cache(spans[0].slot + self._front, len(spans))

    def _present_of(self, past: str) -> str:
        """The output that updates the input ``past``."""
        return past.replace("past.", "present.")

    def _bind_cache(self, slot: int, slots: int) -> Any:
        """A binding whose pasts and presents are the given slots, made once."""
        key = (slot, slots)
        if key not in self._bindings:
            binding = self._session.io_binding()
            for name, place in self._cache.places(slot, slots).items():
                binding.bind_input(name, *place)
                binding.bind_output(self._present_of(name), *place)
            self._bindings[key] = binding
        return self._bindings[key]


def open_session(
    model: Path,
    device: Device,
    threads: int,
    graph: bytes | None = None,
    *,
    frugal: bool = False,
    capture: bool = False,
) -> onnxruntime.InferenceSession:
    """``model``, or another ``graph`` with the same data file, in ONNX Runtime on ``device``.

    ``capture``: with CUDA graphs. Raises :class:`ArtifactError` or :class:`DeviceUnavailable` in one sentence.
    """
    require_onnxruntime()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Long enough to bridge two operators, short enough not to take a core from whoever else runs here.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "100")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(model.parent))
    if frugal:
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_cpu_mem_arena = False
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.kind == "cuda" and device.index is not None:
        prepare()
        providers.insert(0, provider(device.index, capture=capture))
    try:
        session = onnxruntime.InferenceSession(graph or str(model), options, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ArtifactError(f"ONNX Runtime can't load {model.name}: {str(error).splitlines()[0]}") from error
    if device.kind == "cuda" and session.get_providers()[0] != PROVIDER:
        fault = provider_fault(device.index or 0) or "it says no reason"
        raise DeviceUnavailable(f"ONNX Runtime doesn't load {model.name} on {device}: {fault}")
    return session
