"""The driver's structures and the device cache's strides, proven on a driver whose devices' memory is the host's.

``libcuda_stub.c`` is compiled for it; what a real GPU does with the same calls is test_cuda.py's to prove.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runtime import cuda_driver
from runtime.cuda_driver import Context, Gpu, gpus
from runtime.device import Device, chosen, gpu_memory
from runtime.device_cache import DeviceCache
from runtime.errors import DeviceFull, DeviceUnavailable
from runtime.kv_cache import KVCache, SlabSpec
from runtime.scheduler import CacheOp, Move, Release

SPECS = {"past.0.k": SlabSpec(3, 16, np.float16), "past.0.v": SlabSpec(3, 16, np.int8)}
SLOTS, CAPACITY = 4, 32


@pytest.fixture(scope="session")
def stub_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler here to build a driver's stub with")
    path = tmp_path_factory.mktemp("stub") / "libcuda_stub.so"
    source = Path(__file__).with_name("libcuda_stub.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", path, source], check=True)
    return path


@pytest.fixture
def stub(stub_path: Path, monkeypatch: pytest.MonkeyPatch) -> ctypes.CDLL:
    monkeypatch.setattr(cuda_driver, "LIBRARY", str(stub_path))
    return ctypes.CDLL(str(stub_path))


@pytest.fixture
def cache(stub: ctypes.CDLL) -> Iterator[DeviceCache]:
    made = DeviceCache(SPECS, slots=SLOTS, capacity=CAPACITY, index=1)
    assert (stub.stub_allocations(), stub.stub_retained(0), stub.stub_retained(1)) == (len(SPECS), 0, 1)
    yield made
    made.close()
    made.close()
    nothing_is_left(stub)


def nothing_is_left(stub: ctypes.CDLL) -> None:
    assert (stub.stub_allocations(), stub.stub_retained(1), stub.stub_depth()) == (0, 0, 0)


def test_a_cache_that_does_not_fit_is_a_sentence_and_leaves_nothing(stub: ctypes.CDLL) -> None:
    stub.stub_refuse_after(1)
    try:
        with pytest.raises(DeviceFull, match=r"cuda:1 has no 0\.0 GB for the KV cache of 4 slots: .*out of memory"):
            DeviceCache(SPECS, slots=SLOTS, capacity=CAPACITY, index=1)
    finally:
        stub.stub_refuse_after(0)
    nothing_is_left(stub)


def test_devices_are_told_with_their_memory_and_nobody_keeps_a_context(stub: ctypes.CDLL) -> None:
    assert gpus() == [Gpu(0, "Stub A", 3 << 31, 1 << 33), Gpu(1, "Stub B", 1 << 33, 1 << 34)]
    assert [stub.stub_retained(index) for index in range(2)] == [0, 0]
    assert gpu_memory(Device("cuda", 1)) == gpu_memory(Device("cuda", None)) == 1 << 34


def test_who_leaves_the_choice_gets_the_device_with_the_most_memory_free(stub: ctypes.CDLL) -> None:
    assert chosen(Device("cuda", None)) == Device("cuda", 1)
    assert chosen(Device("cuda", None)).described == "cuda:1 (Stub B)"
    assert chosen(Device("cuda", 0)) == Device("cuda", 0)
    assert chosen(Device()) == Device()


def test_the_drivers_words_are_quoted(stub: ctypes.CDLL) -> None:
    with pytest.raises(DeviceUnavailable, match=r"cuDeviceGet: invalid device ordinal \(error 101\)"):
        Context(2)
    context = Context(0)
    with pytest.raises(DeviceUnavailable, match=r"cuMemcpy2DUnaligned_v2: invalid argument"):
        context.copy_rows(0, 0, width=8, rows=1, pitch=4)
    context.close()
    with pytest.raises(DeviceUnavailable, match="cuda:0 was given up"):
        context.synchronise()


def fill(cache: DeviceCache, plain: KVCache) -> None:
    """The same random bytes on both."""
    choose = np.random.default_rng(1)
    for name, place in cache.places(0, SLOTS).items():
        values = choose.integers(0, 100, place.shape).astype(place.dtype)
        ctypes.memmove(place.address, values.ctypes.data, values.nbytes)
        plain.views(0, SLOTS)[name][...] = values


@pytest.mark.parametrize(
    "op",
    [Move(0, 2, CAPACITY), Move(3, 1, 10, start=4), Move(1, 0, 1), Move(2, 0, 5, start=5), Release(1), Release(0, 3)],
)
def test_copies_are_the_cpu_caches(cache: DeviceCache, stub: ctypes.CDLL, op: CacheOp) -> None:
    plain = KVCache(SPECS, slots=SLOTS, capacity=CAPACITY)
    fill(cache, plain)
    synchronised = stub.stub_synchronised()
    cache.apply(op)
    if isinstance(op, Move):
        plain.apply(op)
        assert stub.stub_synchronised() - synchronised == (2 if op.length > op.start else 0)
    for slot in range(SLOTS):
        for tokens in (1, 7, CAPACITY):
            found, expected = cache.kept(slot, tokens), plain.kept(slot, tokens)
            assert {name: values.shape for name, values in found.items()} == dict.fromkeys(SPECS, (3, tokens, 16))
            for name in SPECS:
                np.testing.assert_array_equal(found[name], expected[name])


def test_it_begins_as_zeros_and_says_where_slots_lie(cache: DeviceCache) -> None:
    assert all((values == 0).all() for values in cache.kept(SLOTS - 1, CAPACITY).values())
    whole, last = cache.places(0, SLOTS), cache.places(3, 1)
    for name, spec in SPECS.items():
        assert whole[name][:4] == ("cuda", 1, np.dtype(spec.dtype).type, (SLOTS, 3, CAPACITY, 16))
        assert last[name].shape == (1, 3, CAPACITY, 16)
        assert last[name].address - whole[name].address == 3 * CAPACITY * spec.bytes_per_token
    assert cache.bytes_per_token == 3 * 16 * 2 + 3 * 16


def test_slots_are_counted_from_the_offset(cache: DeviceCache) -> None:
    plain = KVCache(SPECS, slots=SLOTS, capacity=CAPACITY)
    fill(cache, plain)
    cache.apply(Move(0, 2, length=3), offset=1)
    plain.apply(Move(1, 3, length=3))
    for name, values in cache.kept(3, CAPACITY).items():
        np.testing.assert_array_equal(values, plain.kept(3, CAPACITY)[name])
