"""The cache costs what its tokens cost: copies are exact, and a released slot's memory goes back."""

import sys
from pathlib import Path

import numpy as np
import pytest

from runtime.kv_cache import KVCache, SlabSpec
from runtime.scheduler import Move, Release

SPECS = {"past.0.k": SlabSpec(2, 64, np.float32), "past.0.v": SlabSpec(2, 64, np.float16)}
SLOTS, CAPACITY = 4, 4096


@pytest.fixture
def cache() -> KVCache:
    return KVCache(SPECS, slots=SLOTS, capacity=CAPACITY)


def resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")) * 1024


def fill(cache: KVCache, slot: int, value: float) -> None:
    for view in cache.views(slot, 1).values():
        view.fill(value)


def test_a_token_costs_its_keys_and_values(cache: KVCache) -> None:
    assert cache.bytes_per_token == 2 * 64 * 4 + 2 * 64 * 2


def test_views_are_contiguous_and_shaped_as_the_graph_wants_them(cache: KVCache) -> None:
    views = cache.views(1, 2)
    assert {name: view.shape for name, view in views.items()} == dict.fromkeys(SPECS, (2, 2, CAPACITY, 64))
    assert all(view.flags.c_contiguous for view in views.values())


def test_a_move_copies_its_tokens_and_no_others(cache: KVCache) -> None:
    fill(cache, 0, 1)
    fill(cache, 2, 2)
    cache.apply(Move(0, 2, length=10, start=4))
    for view in cache.views(2, 1).values():
        assert (view[0, :, 4:10] == 1).all()
        assert (view[0, :, :4] == 2).all()
        assert (view[0, :, 10:] == 2).all()


def test_slots_are_counted_from_the_offset(cache: KVCache) -> None:
    fill(cache, 1, 5)
    cache.apply(Move(0, 2, length=3), offset=1)
    assert all((view[0, :, :3] == 5).all() for view in cache.views(3, 1).values())


@pytest.mark.skipif(sys.platform != "linux", reason="pages are handed back on Linux")
def test_a_released_slot_gives_its_memory_back_and_the_others_keep_theirs(cache: KVCache) -> None:
    slot_bytes = cache.bytes_per_token * CAPACITY
    before = resident_bytes()
    for slot in range(SLOTS):
        fill(cache, slot, slot + 1)
    full = resident_bytes()
    assert full - before > 0.9 * SLOTS * slot_bytes
    cache.apply(Release(1))
    assert full - resident_bytes() > 0.9 * slot_bytes
    values = [[float(view.min()), float(view.max())] for slot in (0, 2, 3) for view in cache.views(slot, 1).values()]
    assert values == [[float(slot + 1)] * 2 for slot in (0, 2, 3) for _ in SPECS]
    assert all((view == 0).all() for view in cache.views(1, 1).values())


@pytest.mark.skipif(sys.platform != "linux", reason="pages are handed back on Linux")
def test_what_a_slot_holds_beyond_its_tokens_is_given_back_and_the_rest_stays(cache: KVCache) -> None:
    slot_bytes = cache.bytes_per_token * CAPACITY
    for slot in range(SLOTS):
        fill(cache, slot, slot + 1)
    full = resident_bytes()
    cache.apply(Release(1, start=CAPACITY // 4))
    assert full - resident_bytes() > 0.7 * slot_bytes
    for view in cache.views(1, 1).values():
        assert (view[0, :, : CAPACITY // 4] == 2).all()
    assert all((view == slot + 1).all() for slot in (0, 2, 3) for view in cache.views(slot, 1).values())


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted on Linux")
def test_what_nobody_wrote_costs_nothing() -> None:
    before = resident_bytes()
    cache = KVCache(SPECS, slots=64, capacity=CAPACITY)
    fill_one = cache.views(63, 1)["past.0.k"]
    fill_one[0, 0, 0] = 1
    assert resident_bytes() - before < 4 << 20
