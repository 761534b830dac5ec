"""Which device computes: what was asked for, what is here, and how many CPU cores may be used."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from runtime import cuda_driver
from runtime.cuda_provider import provider_fault
from runtime.errors import DeviceUnavailable

_log = logging.getLogger(__name__)
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, slots=True)
class Device:
    """``cpu``, or a CUDA device by its index; ``None``: whichever has the most memory free when a model loads.

    ``chip``: its name, as NVIDIA gives it. ``automatic``: nobody asked for it, so the CPU may take its place, aloud.
    """

    kind: str = "cpu"
    index: int | None = 0
    chip: str = field(default="", compare=False)
    automatic: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" or self.index is None else f"{self.kind}:{self.index}"

    @property
    def described(self) -> str:
        """With the chip's name: ``cuda:0 (NVIDIA H100 80GB HBM3)``."""
        return f"{self} ({self.chip})" if self.chip else str(self)


def resolve_device(wanted: str) -> Device:
    """The device that ``wanted`` (``auto``, ``cpu``, ``cuda``, ``cuda:1``) names.

    ``auto`` is what ROOST_DEVICE names, else CUDA where onnxruntime-gpu, a driver and a device are there, else the
    CPU. Raises :class:`DeviceUnavailable` with what is missing of a CUDA that was asked for; there is no silent
    fallback.
    """
    wanted = (os.environ.get("ROOST_DEVICE") or wanted) if wanted == "auto" else wanted
    if wanted == "cpu":
        return Device()
    if wanted == "auto":
        return _automatic()
    match = re.fullmatch(r"cuda(?::(\d+))?", wanted)
    if match is None:
        raise DeviceUnavailable(f"{wanted!r} is no device: use auto, cpu, cuda or cuda:N")
    index = None if match[1] is None else int(match[1])
    _require_cuda(wanted, index)
    return Device("cuda", index, _chip(index))


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
    """Bytes of memory of a CUDA device, of the largest where ``device`` leaves the choice.

    Raises :class:`DeviceUnavailable` where the driver doesn't answer.
    """
    if device.index is not None:
        return cuda_driver.total_memory(device.index)
    return max((cuda_driver.total_memory(index) for index in range(cuda_driver.count())), default=0)


def chosen(device: Device) -> Device:
    """``device`` with an index: where it leaves the choice, the one with the most memory free just now."""
    if device.kind != "cuda" or device.index is not None:
        return device
    best = max(cuda_driver.gpus(), key=lambda gpu: gpu.free)
    return replace(device, index=best.index, chip=best.chip)


def _automatic() -> Device:
    try:
        if require_onnxruntime() != "onnxruntime-gpu" or not cuda_driver.count():
            return Device()
    except DeviceUnavailable:
        return Device()  # nothing of CUDA is here; if ONNX Runtime isn't either, its first use says so
    if fault := provider_fault(0):
        _log.warning("the CPU computes, not the GPU that is here (%s): %s", _chip(None), _with_advice(fault))
        return Device()
    return Device("cuda", None, _chip(None), automatic=True)


def _require_cuda(wanted: str, index: int | None) -> None:
    """Refuse, in one sentence with all that is missing, a CUDA that can't be used."""
    if require_onnxruntime() != "onnxruntime-gpu":
        raise DeviceUnavailable(
            f"--device {wanted} needs onnxruntime-gpu, and onnxruntime is here: type "
            "pip uninstall -y onnxruntime && pip install 'roost[gpu]'"
        )
    missing = []
    try:
        there = cuda_driver.count()
    except DeviceUnavailable as error:
        missing.append(f"{error} (install NVIDIA's driver)")
    else:
        if not there or (index or 0) >= there:
            named = ", ".join(f"cuda:{each} ({cuda_driver.chip(each)})" for each in range(there))
            raise DeviceUnavailable(f"there is no {wanted} here: the NVIDIA driver knows {named or 'no device'}")
    if fault := provider_fault(index or 0):
        missing.append(_with_advice(fault))
    if missing:
        raise DeviceUnavailable(f"--device {wanted} can't be used here: {'; and '.join(missing)}")


def _with_advice(fault: str) -> str:
    return f"{fault} (CUDA's libraries come with pip install 'roost[gpu]')" if ".so" in fault else fault


def _chip(index: int | None) -> str:
    """The name of a device, or the names of all that there are."""
    indices = range(cuda_driver.count()) if index is None else [index]
    return ", ".join(dict.fromkeys(cuda_driver.chip(each) for each in indices))


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
