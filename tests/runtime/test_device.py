"""A device that can't be used is a sentence that names what is missing, never a silent fallback."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import cuda_driver, cuda_provider, device
from runtime.device import Device, require_onnxruntime, resolve_device, usable_cores
from runtime.errors import ArtifactError, DeviceUnavailable
from runtime.session import DecoderSession


@pytest.fixture(autouse=True)
def no_wish(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody asks by the environment, and every answer of the provider is a new one."""
    monkeypatch.delenv("ROOST_DEVICE", raising=False)
    cuda_provider.provider_fault.cache_clear()
    yield
    cuda_provider.provider_fault.cache_clear()


def test_cpu_is_always_there() -> None:
    assert resolve_device("cpu") == Device()
    assert str(resolve_device("cpu")) == resolve_device("cpu").described == "cpu"


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
    with pytest.raises(DeviceUnavailable, match=r"uninstall -y onnxruntime && pip install 'roost\[gpu\]'"):
        resolve_device("cuda")


GONE = "libcuda_of_nobody.so.1"
LACKS = "libcublasLt.so.13: cannot open shared object file: No such file or directory"


def here(
    monkeypatch: pytest.MonkeyPatch, *, fault: str | None = None, chips: tuple[str, ...] | None = ("A", "B")
) -> None:
    """onnxruntime-gpu is installed, and its provider says ``fault``; ``chips`` are there, or for ``None`` no driver."""
    installed(monkeypatch, "onnxruntime-gpu")
    monkeypatch.setattr(device, "provider_fault", lambda _index: fault)
    if chips is None:
        monkeypatch.setattr(cuda_driver, "LIBRARY", GONE)
        return
    monkeypatch.setattr(cuda_driver, "count", lambda: len(chips))
    monkeypatch.setattr(cuda_driver, "chip", lambda index: chips[index])


def test_cuda_names_every_library_that_is_missing_and_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch, fault=LACKS, chips=None)
    with pytest.raises(DeviceUnavailable) as caught:
        resolve_device("cuda:1")
    for words in ("--device cuda:1 can't be used here", GONE, "install NVIDIA's driver", LACKS, "roost[gpu]"):
        assert words in str(caught.value)


def test_a_device_that_is_not_there_is_a_sentence_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch)
    with pytest.raises(DeviceUnavailable, match=r"no cuda:2 here.* knows cuda:0 \(A\), cuda:1 \(B\)$"):
        resolve_device("cuda:2")
    here(monkeypatch, chips=())
    with pytest.raises(DeviceUnavailable, match=r"no cuda here.* knows no device$"):
        resolve_device("cuda")


def test_cuda_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch)
    assert resolve_device("cuda:1").described == "cuda:1 (B)"
    assert resolve_device("cuda").described == "cuda (A, B)"
    assert not resolve_device("cuda").automatic


def test_auto_is_cuda_where_all_of_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch)
    assert resolve_device("auto") == Device("cuda", None)
    assert resolve_device("auto").automatic
    monkeypatch.setenv("ROOST_DEVICE", "cpu")
    assert resolve_device("auto") == Device()
    monkeypatch.setenv("ROOST_DEVICE", "cuda:1")
    assert resolve_device("auto") == Device("cuda", 1)
    assert resolve_device("cpu") == Device()


def test_auto_is_the_cpu_in_silence_where_there_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for chips in ((), None):
        here(monkeypatch, fault=LACKS, chips=chips)
        assert resolve_device("auto") == Device()
    installed(monkeypatch, "onnxruntime")
    assert resolve_device("auto") == Device()
    assert caplog.text == ""


def test_auto_says_aloud_that_a_gpu_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    here(monkeypatch, fault=LACKS)
    assert resolve_device("auto") == Device()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "not the GPU that is here (A, B): libcublasLt.so.13" in caplog.text


def test_the_real_provider_loads_or_says_why_not(capfd: pytest.CaptureFixture[str]) -> None:
    """In whichever environment this is; on a machine without CUDA the loader's words name a library."""
    fault = cuda_provider.provider_fault(0)
    if fault is not None:
        assert re.search(r"lib\w+\.so|CUDA", fault), fault
        assert "\n" not in fault
    assert capfd.readouterr() == ("", "")


def test_asking_for_cuda_here_is_cuda_or_a_sentence(arithmetic_decoder: Path) -> None:
    """The whole way, with what is installed: never a session on the CPU."""
    if cuda_provider.provider_fault(0) is None:
        assert resolve_device("cuda:0").chip
        return
    missing = "onnxruntime-gpu" if require_onnxruntime() == "onnxruntime" else "can't be used here|no cuda:0 here"
    with pytest.raises(DeviceUnavailable, match=missing):
        resolve_device("cuda:0")
    with pytest.raises(DeviceUnavailable, match=r"doesn't load decoder\.onnx on cuda:0: |built without CUDA"):
        DecoderSession(arithmetic_decoder, slots=1, capacity=8, device=Device("cuda", 0))


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
