"""The NVIDIA driver, asked directly: which devices there are, their memory, and copies within it. Knows no ONNX.

ctypes over ``libcuda.so.1``, whose functions are those of NVIDIA's CUDA Driver API. Work is done in a device's primary
context, the one in which ONNX Runtime's (the runtime API's) memory lives too. Needs the standard library alone, so that
``make test-gpu`` can ask before it sets anything up.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from runtime.errors import DeviceUnavailable

LIBRARY = "libcuda.so.1"
_NAME = 256  # bytes
_HOST, _DEVICE = 1, 2  # CUmemorytype


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device. ``free`` and ``total``: bytes of its memory."""

    index: int
    chip: str
    free: int
    total: int


class _Copy2D(ctypes.Structure):
    """``CUDA_MEMCPY2D`` of the driver API's second version."""

    _fields_ = (
        ("src_x_bytes", ctypes.c_size_t),
        ("src_y", ctypes.c_size_t),
        ("src_type", ctypes.c_int),
        ("src_host", ctypes.c_void_p),
        ("src_device", ctypes.c_uint64),
        ("src_array", ctypes.c_void_p),
        ("src_pitch", ctypes.c_size_t),
        ("dst_x_bytes", ctypes.c_size_t),
        ("dst_y", ctypes.c_size_t),
        ("dst_type", ctypes.c_int),
        ("dst_host", ctypes.c_void_p),
        ("dst_device", ctypes.c_uint64),
        ("dst_array", ctypes.c_void_p),
        ("dst_pitch", ctypes.c_size_t),
        ("width_bytes", ctypes.c_size_t),
        ("height", ctypes.c_size_t),
    )


class Context:
    """The primary context of device ``index``, held until closed; about 0.4 GB on the device while anybody holds it.

    Addresses and sizes are in bytes. Every method raises :class:`DeviceUnavailable` with the driver's words.
    """

    def __init__(self, index: int) -> None:
        self._index, self._handle = index, _handle(index)
        self._context: ctypes.c_void_p | None = ctypes.c_void_p()
        _call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._handle)

    def memory(self) -> tuple[int, int]:
        """Free and total memory, whoever uses it."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        with self._current():
            _call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def allocate(self, size: int) -> int:
        """The address of ``size`` bytes on the device; nothing else is taken, and :meth:`free` gives all of it back."""
        address = ctypes.c_uint64()
        with self._current():
            _call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return address.value

    def free(self, address: int) -> None:
        """Give back what :meth:`allocate` gave."""
        with self._current():
            _call("cuMemFree_v2", ctypes.c_uint64(address))

    def synchronise(self) -> None:
        """Wait until the device has done whatever was begun, on every stream."""
        with self._current():
            _call("cuCtxSynchronize")

    def fill(self, address: int, byte: int, size: int) -> None:
        """Set ``size`` bytes on the device."""
        with self._current():
            _call("cuMemsetD8_v2", ctypes.c_uint64(address), ctypes.c_ubyte(byte), ctypes.c_size_t(size))

    def copy_rows(self, source: int, target: int, *, width: int, rows: int, pitch: int) -> None:
        """Copy ``rows`` stretches of ``width``, ``pitch`` apart on both sides, within the device."""
        self._copy(_Copy2D(**_side("src", _DEVICE, source, pitch), **_side("dst", _DEVICE, target, pitch)), width, rows)

    def read_rows(self, source: int, target: int, *, width: int, rows: int, pitch: int) -> None:
        """Copy such stretches to the host, where they lie side by side."""
        self._copy(_Copy2D(**_side("src", _DEVICE, source, pitch), **_side("dst", _HOST, target, width)), width, rows)

    def close(self) -> None:
        """Give the context up. Idempotent."""
        if self._context is not None:
            self._context = None
            _call("cuDevicePrimaryCtxRelease_v2", self._handle)

    def _copy(self, copy: _Copy2D, width: int, rows: int) -> None:
        copy.width_bytes, copy.height = width, rows
        with self._current():
            # Not cuMemcpy2D: within a device that may refuse pitches which cuMemAllocPitch didn't choose.
            _call("cuMemcpy2DUnaligned_v2", ctypes.byref(copy))

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Make the context this thread's for a call; what was current, ONNX Runtime's use included, comes back."""
        if self._context is None:
            raise DeviceUnavailable(f"cuda:{self._index} was given up")
        _call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            _call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))


def gpus() -> list[Gpu]:
    """Every device, in the driver's order, which CUDA_VISIBLE_DEVICES changes.

    Raises :class:`DeviceUnavailable` where the driver's library can't be loaded or refuses; it names the library.
    """
    return [gpu(index) for index in range(count())]


def gpu(index: int) -> Gpu:
    """One device and its memory; its context is made for the question where nobody holds it, which takes a moment."""
    context = Context(index)
    try:
        free, total = context.memory()
    finally:
        context.close()
    return Gpu(index, chip(index), free, total)


def count() -> int:
    """How many devices there are."""
    found = ctypes.c_int()
    _call("cuDeviceGetCount", ctypes.byref(found))
    return found.value


def chip(index: int) -> str:
    """A device's name, as NVIDIA gives it."""
    name = ctypes.create_string_buffer(_NAME)
    _call("cuDeviceGetName", name, ctypes.c_int(_NAME), _handle(index))
    return name.value.decode(errors="replace")


def total_memory(index: int) -> int:
    """Bytes of a device's memory, asked without a context."""
    size = ctypes.c_size_t()
    _call("cuDeviceTotalMem_v2", ctypes.byref(size), _handle(index))
    return size.value


def _side(side: str, kind: int, address: int, pitch: int) -> dict[str, Any]:
    where = "host" if kind == _HOST else "device"
    return {f"{side}_type": kind, f"{side}_{where}": address, f"{side}_pitch": pitch}


def _handle(index: int) -> ctypes.c_int:
    handle = ctypes.c_int()
    _call("cuDeviceGet", ctypes.byref(handle), ctypes.c_int(index))
    return handle


def _call(name: str, *arguments: Any) -> None:
    library = _library(LIBRARY)
    status = getattr(library, name)(*arguments)
    if status:
        raise DeviceUnavailable(f"the NVIDIA driver says to {name}: {_words(library, status)}")


def _words(library: ctypes.CDLL, status: int) -> str:
    text = ctypes.c_char_p()
    if library.cuGetErrorString(ctypes.c_int(status), ctypes.byref(text)) or text.value is None:
        return f"error {status}"
    return f"{text.value.decode(errors='replace')} (error {status})"


@cache
def _library(name: str) -> ctypes.CDLL:
    """The driver's library, ready for calls; a failure isn't remembered."""
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise DeviceUnavailable(f"the NVIDIA driver's library can't be loaded: {error}") from error
    if status := library.cuInit(0):
        raise DeviceUnavailable(f"the NVIDIA driver can't start: {_words(library, status)}")
    return library
