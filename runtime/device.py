"""Which device computes: what was asked for, what is here, and how many CPU cores may be used."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import os
import re
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import DeviceUnavailable

_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, slots=True)
class Device:
    """``cpu``, or one CUDA device by its index."""

    kind: str = "cpu"
    index: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


def resolve_device(wanted: str) -> Device:
    """The device that ``wanted`` (``auto``, ``cpu``, ``cuda``, ``cuda:1``) names.

    ``auto`` is the CPU as long as artifacts are built for it alone. Raises :class:`DeviceUnavailable`
    with what is missing; there is no silent fallback.
    """
    if wanted in ("auto", "cpu"):
        return Device()
    match = re.fullmatch(r"cuda(?::(\d+))?", wanted)
    if match is None:
        raise DeviceUnavailable(f"{wanted!r} is no device: use auto, cpu, cuda or cuda:N")
    _require_cuda()
    return Device("cuda", int(match[1] or 0))


def require_onnxruntime() -> str:
    """The name of the one ONNX Runtime distribution that is installed, or a sentence with what to type.

    ``onnxruntime`` and ``onnxruntime-gpu`` own the same folder, so both together are as broken as neither.
    """
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)]
    match installed:
        case [name]:
            return name
        case []:
            raise DeviceUnavailable(
                "ONNX Runtime isn't installed: type pip install 'roost[cpu]', or 'roost[gpu]' beside an NVIDIA driver"
            )
    raise DeviceUnavailable(
        "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: type "
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'roost[cpu]' (or 'roost[gpu]')"
    )


def usable_cores() -> int:
    """CPU cores this process may use: its affinity, cut to a container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    try:
        quota, period = _CGROUP_QUOTA.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def memory_share(share: float) -> int:
    """``share`` of the bytes of memory this process may use: the machine's, cut to a container's limit."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no cgroup, or no limit ("max")
        whole = min(whole, int(_CGROUP_MEMORY.read_text()))
    return int(whole * share)


def gpu_memory(device: Device) -> int:
    """Bytes of memory of a CUDA device, asked of the driver; :class:`DeviceUnavailable` where it doesn't answer."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise DeviceUnavailable(f"{device} needs an NVIDIA driver: {error}") from error
    handle, size = ctypes.c_int(), ctypes.c_size_t()
    failed = driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(handle), device.index)
    if failed or driver.cuDeviceTotalMem_v2(ctypes.byref(size), handle):
        raise DeviceUnavailable(f"the NVIDIA driver tells nothing of {device}")
    return size.value


def _require_cuda() -> None:
    if require_onnxruntime() != "onnxruntime-gpu":
        raise DeviceUnavailable("--device cuda needs onnxruntime-gpu: type pip install 'roost[gpu]'")
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise DeviceUnavailable("--device cuda needs an NVIDIA driver: libcuda.so.1 can't be loaded") from None


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
