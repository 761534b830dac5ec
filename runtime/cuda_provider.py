"""ONNX Runtime's CUDA provider: whether it loads here, what is missing if not, and how a session asks for it."""

from __future__ import annotations

import contextlib
import ctypes
import io
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from runtime.errors import DeviceUnavailable

PROVIDER = "CUDAExecutionProvider"
_LIBRARY = "libonnxruntime_providers_cuda.so"
_SILENT, _WARNING = 4, 2  # ONNX Runtime's severities


def provider(index: int, *, capture: bool) -> tuple[str, dict[str, str]]:
    """The entry for a session's providers. ``capture``: runs that ask for it are captured as CUDA graphs.

    Memory is asked for as it is needed: doubling, the default, would take what the cache of another model could have.
    """
    options = {"device_id": str(index), "arena_extend_strategy": "kSameAsRequested"}
    return PROVIDER, {**options, "enable_cuda_graph": "1"} if capture else options


@cache
def provider_fault(index: int) -> str | None:
    """Why the provider can't be used on CUDA device ``index``, in the loader's own words; ``None`` where it can.

    A session decides: ``get_available_providers()`` lists what was compiled in, whether it loads or not.
    """
    import onnxruntime

    try:
        prepare()
    except DeviceUnavailable as error:
        return str(error)
    onnxruntime.set_default_logger_severity(_SILENT)  # or it writes to the terminal what is raised as a sentence
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _SILENT
        entry = provider(index, capture=False)
        session = onnxruntime.InferenceSession(_nothing(), options, providers=[entry], enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        return _loader_fault() or f"ONNX Runtime says: {str(error).splitlines()[0]}"
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)
    if session.get_providers()[0] == PROVIDER:
        return None
    return _loader_fault() or "ONNX Runtime takes the CPU in its place and says no reason"


def prepare() -> None:
    """Load CUDA's libraries from the nvidia packages beside onnxruntime-gpu. Idempotent; what fails shows later.

    Raises :class:`DeviceUnavailable` for an ONNX Runtime that was built without the provider.
    """
    import onnxruntime

    if PROVIDER not in onnxruntime.get_available_providers():
        raise DeviceUnavailable("this ONNX Runtime was built without CUDA: it takes onnxruntime-gpu (roost[gpu])")
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        onnxruntime.preload_dlls()


def _loader_fault() -> str | None:
    """What the loader says to the provider's library.

    Only once ONNX Runtime has failed with it: whoever loads it before ONNX Runtime breaks it, for it asks for its host
    as it is loaded.
    """
    import onnxruntime

    try:
        ctypes.CDLL(str(Path(onnxruntime.__file__).parent / "capi" / _LIBRARY))
    except OSError as error:
        return str(error)
    return None


def _nothing() -> Any:
    """A model that gives back what it gets."""
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "nothing", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
