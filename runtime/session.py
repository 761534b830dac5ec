"""A decoder in ONNX Runtime with its KV cache: executes a step plan, in place.

The only module that knows onnxruntime. Every layer's keys and values are one slab ``[rows, kv_heads, capacity,
head_dim]``; a step binds the slots it touches as past *and* present, so nothing is copied from token to token.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime.device import Device, require_onnxruntime, usable_cores
from runtime.errors import ArtifactError, DeviceUnavailable
from runtime.scheduler import Move, Span, StepPlan

if TYPE_CHECKING:
    import onnxruntime

_QUIET = 3  # ONNX Runtime's severities: 2 is warning, 3 error
_KV_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class DecoderSession:
    """One decoder, loaded. Used by one thread at a time."""

    def __init__(self, model: Path, *, rows: int, capacity: int, device: Device, threads: int | None = None) -> None:
        self._session = _open(model, device, threads or usable_cores())
        self.capacity = capacity
        self._slabs = self._allocate(rows, capacity)
        self._bindings: dict[tuple[int, int], Any] = {}
        self._vocab = int(self._session.get_outputs()[0].shape[1])

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values that one token takes over all layers."""
        return sum(slab.shape[1] * slab.shape[3] * slab.itemsize for slab in self._slabs.values())

    def run(self, plan: StepPlan) -> NDArray[np.float32]:
        """Execute ``plan``: moves, decode batch, chunk. Logits float32 [len(plan.sampled), vocab]."""
        for move in plan.moves:
            self._move(move)
        parts = []
        if plan.decode:
            parts.append(self._forward(plan.decode))
        if plan.chunk is not None:
            parts.append(self._forward((plan.chunk,)))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Release the model and the cache."""
        self._bindings.clear()
        self._slabs.clear()
        del self._session

    def _allocate(self, rows: int, capacity: int) -> dict[str, NDArray[Any]]:
        """A slab for every ``past.*`` input. The system backs a page only once a token is written to it."""
        slabs = {}
        for entry in self._session.get_inputs():
            if entry.name.startswith("past."):
                _, heads, _, head_dim = entry.shape
                slabs[entry.name] = np.zeros((rows, heads, capacity, head_dim), _KV_TYPES[entry.type])
        return slabs

    def _move(self, move: Move) -> None:
        for slab in self._slabs.values():
            slab[move.target, :, : move.length] = slab[move.source, :, : move.length]

    def _forward(self, spans: tuple[Span, ...]) -> NDArray[np.float32]:
        """One run over ``spans``, which hold consecutive slots and as many tokens each."""
        length = len(spans[0].tokens)
        ids = np.array([span.tokens for span in spans], np.int64)
        lengths = np.array([span.start + length - 1 for span in spans], np.int32)
        total = np.array(lengths.max() + 1, np.int32)
        wanted = np.array([row * length + length - 1 for row, span in enumerate(spans) if span.samples], np.int64)
        logits = np.empty((len(wanted), self._vocab), np.float32)
        binding = self._bind_cache(spans[0].slot, len(spans))
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

    def _bind_cache(self, slot: int, rows: int) -> Any:
        """A binding whose pasts and presents are the slots ``slot`` to ``slot + rows - 1``, made once."""
        key = (slot, rows)
        if key not in self._bindings:
            binding = self._session.io_binding()
            for name, slab in self._slabs.items():
                view = slab[slot : slot + rows]
                place = ("cpu", 0, view.dtype.type, view.shape, view.ctypes.data)
                binding.bind_input(name, *place)
                binding.bind_output(name.replace("past.", "present."), *place)
            self._bindings[key] = binding
        return self._bindings[key]


def _open(model: Path, device: Device, threads: int) -> onnxruntime.InferenceSession:
    require_onnxruntime()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads > 1 else "0")
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
