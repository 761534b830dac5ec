"""A device that can't be used is a sentence that names what is missing, never a silent fallback."""

import ctypes
from pathlib import Path

import pytest

from runtime import device
from runtime.device import Device, require_onnxruntime, resolve_device, usable_cores
from runtime.errors import ArtifactError, DeviceUnavailable
from runtime.session import DecoderSession


@pytest.mark.parametrize("wanted", ["auto", "cpu"])
def test_cpu_is_always_there(wanted: str) -> None:
    assert resolve_device(wanted) == Device()
    assert str(resolve_device(wanted)) == "cpu"


@pytest.mark.parametrize("wanted", ["gpu", "cuda:", "cuda:x", "tpu", ""])
def test_an_unknown_device_is_refused(wanted: str) -> None:
    with pytest.raises(DeviceUnavailable, match="is no device"):
        resolve_device(wanted)


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(device, "_is_installed", lambda name: name in names)


def test_neither_runtime_installed_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    with pytest.raises(DeviceUnavailable, match=r"pip install 'roost\[cpu\]'"):
        require_onnxruntime()


def test_both_runtimes_installed_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "onnxruntime", "onnxruntime-gpu")
    with pytest.raises(DeviceUnavailable, match="pip uninstall -y onnxruntime onnxruntime-gpu"):
        require_onnxruntime()


def test_cuda_without_the_gpu_runtime_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "onnxruntime")
    with pytest.raises(DeviceUnavailable, match=r"roost\[gpu\]"):
        resolve_device("cuda")


def test_cuda_without_a_driver_names_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver(name: str) -> None:
        raise OSError(name)

    installed(monkeypatch, "onnxruntime-gpu")
    monkeypatch.setattr(ctypes, "CDLL", no_driver)
    with pytest.raises(DeviceUnavailable, match=r"libcuda\.so\.1"):
        resolve_device("cuda:1")


@pytest.mark.parametrize(("quota", "most"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", 10_000)])
def test_cores_are_cut_to_the_containers_quota(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, most: int
) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(quota)
    monkeypatch.setattr(device, "_CGROUP_QUOTA", path)
    assert 1 <= usable_cores() <= most


def test_a_graph_that_cannot_be_loaded_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "decoder.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(ArtifactError, match=r"can't load decoder\.onnx") as caught:
        DecoderSession(path, slots=1, capacity=8, device=Device())
    assert "\n" not in str(caught.value)
