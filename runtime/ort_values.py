"""ONNX Runtime's tensors outside a session: on the CPU or on a GPU, at addresses that stay."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from runtime.device import require_onnxruntime


class Tensor(Protocol):
    """An ``onnxruntime.OrtValue``: what is used of it."""

    def update_inplace(self, data: NDArray[Any]) -> None:
        """Copy ``data``, of its shape and type, to where it lies."""

    def numpy(self) -> NDArray[Any]:
        """Its values on the host; on the CPU perhaps its very memory."""


def empty(shape: tuple[int, ...], dtype: DTypeLike, *, index: int | None) -> Tensor:
    """A tensor whose values are whatever was there, on CUDA device ``index`` or, for ``None``, on the CPU."""
    require_onnxruntime()
    import onnxruntime

    place = ("cpu", 0) if index is None else ("cuda", index)
    tensor: Tensor = onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(shape), np.dtype(dtype).type, *place)
    return tensor


def graph_run(number: int) -> Any:
    """Run options that capture, and from then on replay, CUDA graph ``number``; -1 for a run without one.

    The key is ``kOrtRunOptionsConfigCudaGraphAnnotation`` of ONNX Runtime's run options, which the CPU doesn't read.
    """
    require_onnxruntime()
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(number))
    return options
