"""A decoder in ONNX Runtime with its KV cache: executes a step plan, in place.

The only module that knows onnxruntime. A step binds the cache slots it touches as past *and* present, so nothing is
copied from token to token.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime.device import Device, require_onnxruntime, usable_cores
from runtime.errors import ArtifactError, DeviceUnavailable
from runtime.kv_cache import KVCache, SlabSpec
from runtime.scheduler import Release, Span, StepPlan

if TYPE_CHECKING:
    import onnxruntime

_QUIET = 3  # ONNX Runtime's severities: 2 is warning, 3 error
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
    ) -> None:
        self._session = _open(model, device, threads or usable_cores(), frugal=frugal)
        self.capacity = capacity
        self._cache = KVCache(self._specs(), slots=slots + _COMPANIONS, capacity=capacity)
        self._bindings: dict[tuple[int, int], Any] = {}
        self._vocab = int(self._session.get_outputs()[0].shape[1])
        self.needs_companion = False
        self.needs_companion = deterministic and self._lone_rows_differ()

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values that one token takes over all layers."""
        return self._cache.bytes_per_token

    def run(self, plan: StepPlan) -> NDArray[np.float32]:
        """Execute ``plan``: cache operations, decode batch, chunk.

        Logits float32 [sum of ``wanted`` over plan.sampled, vocab].
        """
        for op in plan.cache_ops:
            self._cache.apply(op, offset=_COMPANIONS)
        if any(span.drafted for span in plan.decode):  # several tokens of several rows can't share a step
            parts = [self._forward((span,)) for span in plan.decode]
        else:
            parts = [self._decode(plan.decode)] if plan.decode else []
        if plan.chunk is not None:
            parts.append(self._forward((plan.chunk,)))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def kept(self, slot: int, tokens: int) -> dict[str, NDArray[Any]]:
        """A copy of a slot's first ``tokens`` keys and values by input name: ``[kv_heads, tokens, head_dim]``."""
        views = self._cache.views(slot + _COMPANIONS, 1)
        return {name: view[0, :, :tokens].copy() for name, view in views.items()}

    def close(self) -> None:
        """Release the model and the cache."""
        self._bindings.clear()
        self._cache.close()
        del self._session

    def _specs(self) -> dict[str, SlabSpec]:
        """A slab for every ``past.*`` input."""
        entries = [entry for entry in self._session.get_inputs() if entry.name.startswith("past.")]
        return {entry.name: SlabSpec(entry.shape[1], entry.shape[3], _KV_TYPES[entry.type]) for entry in entries}

    def _decode(self, spans: tuple[Span, ...]) -> NDArray[np.float32]:
        lone = len(spans) == 1 and self.needs_companion
        return self._forward((_COMPANION, *spans) if lone else spans)

    def _lone_rows_differ(self) -> bool:
        """Whether a decode step of one row gives other bits than the same row in a step of two."""
        read = Span(0, 0, 0, tuple(range(1, _PROBE)), samples=False)
        self._forward((read,))
        asks = Span(0, 0, _PROBE - 1, (1,), samples=True)
        alone, accompanied = self._forward((asks,)), self._forward((_COMPANION, asks))
        self._cache.apply(Release(0), offset=_COMPANIONS)
        return not np.array_equal(alone, accompanied)

    def _forward(self, spans: tuple[Span, ...]) -> NDArray[np.float32]:
        """One run over ``spans``, which hold consecutive slots and as many tokens each."""
        length = len(spans[0].tokens)
        ids = np.array([span.tokens for span in spans], np.int64)
        lengths = np.array([span.start + length - 1 for span in spans], np.int32)
        total = np.array(lengths.max() + 1, np.int32)
        ends = ((row * length + length, span.wanted) for row, span in enumerate(spans))
        wanted = np.array([place for end, count in ends for place in range(end - count, end)], np.int64)
        logits = np.empty((len(wanted), self._vocab), np.float32)
        binding = self._bind_cache(spans[0].slot + _COMPANIONS, len(spans))
        inputs: dict[str, NDArray[Any]] = {
            "input_ids": ids,
            "seqlens_k": lengths,
            "total_seq": total,
            "logit_idx": wanted,
        }
        for name, values in inputs.items():
            binding.bind_input(name, "cpu", 0, values.dtype.type, values.shape, values.ctypes.data)
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        # The binding holds bare addresses: `inputs` and `logits` must live until the run is over.
        self._session.run_with_iobinding(binding)
        return logits

    def _bind_cache(self, slot: int, slots: int) -> Any:
        """A binding whose pasts and presents are the given slots, made once."""
        key = (slot, slots)
        if key not in self._bindings:
            binding = self._session.io_binding()
            for name, view in self._cache.views(slot, slots).items():
                place = ("cpu", 0, view.dtype.type, view.shape, view.ctypes.data)
                binding.bind_input(name, *place)
                binding.bind_output(name.replace("past.", "present."), *place)
            self._bindings[key] = binding
        return self._bindings[key]


def _open(model: Path, device: Device, threads: int, *, frugal: bool) -> onnxruntime.InferenceSession:
    require_onnxruntime()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Long enough to bridge two operators, short enough not to take a core from whoever else runs here.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "100")
    if frugal:
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_cpu_mem_arena = False
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.kind == "cuda":
        onnxruntime.preload_dlls()
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index}))
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ArtifactError(f"ONNX Runtime can't load {model.name}: {str(error).splitlines()[0]}") from error
    if device.kind == "cuda" and session.get_providers()[0] != "CUDAExecutionProvider":
        raise DeviceUnavailable("ONNX Runtime can't use CUDA here: it needs CUDA 13 and cuDNN 9 (roost[gpu] has both)")
    return session
