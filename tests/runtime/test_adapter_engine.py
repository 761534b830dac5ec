"""The engine's laws with adapters in it: real numbers, on a tiny checkpoint."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from runtime.adapter import Adapter
from runtime.adapter_cache import AdapterCache
from runtime.config import EngineConfig, SamplingParams
from runtime.engine import Engine, Generation
from runtime.errors import LoraUnsupported
from tests.models.adapted import CAPACITY, open_session, tiny_adapter, write_tiny_decoder
from tests.runtime.conftest import StartEngine
from tests.runtime.reference.tiny_adapters import KINDS
from tests.runtime.reference.tiny_checkpoints import VOCAB

Asked = tuple[list[int], Adapter | None, int]
ROWS, KEPT = 6, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    write_tiny_decoder(folder, "llama", "int4")
    return folder


@pytest.fixture(scope="module")
def adapters(folder: Path) -> list[Adapter | None]:
    return [*(tiny_adapter(folder, "llama", kind) for kind in KINDS), None]


Start = Callable[..., Engine]


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts engines over the tiny decoder whose every step is checked."""
    engines: list[Engine] = []

    def begin(*, kv_tokens: int = 10_000, deterministic: bool = True, rows: int = ROWS) -> Engine:
        session = open_session(folder / "decoder.onnx", slots=rows + KEPT)
        config = EngineConfig(
            rows=rows,
            kept_prompts=KEPT,
            chunk_tokens=9,
            prefill_tokens=40,
            kv_bytes=kv_tokens * session.kv_bytes_per_token,
            deterministic=deterministic,
            debug=True,
        )
        engines.append(Engine(session, config))
        return engines[-1]

    yield begin
    for engine in engines:
        engine.close()


def asked(adapters: list[Adapter | None], count: int) -> list[Asked]:
    choose = random.Random(4)
    return [
        ([choose.randrange(3, VOCAB) for _ in range(choose.randint(2, 40))], adapters[place % len(adapters)], place)
        for place in range(count)
    ]


def submit(engine: Engine, one: Asked, count: int = 20) -> Generation:
    prompt, adapter, seed = one
    sampling = SamplingParams(temperature=1.0, seed=seed + 1)
    return engine.submit(prompt, max_tokens=count, sampling=sampling, adapter=adapter)


async def text(engine: Engine, one: Asked, count: int = 20) -> list[int]:
    return [token.id async for token in submit(engine, one, count)]


async def test_a_crowd_with_adapters_says_what_each_says_alone(start: Start, adapters: list[Adapter | None]) -> None:
    crowd, engine = asked(adapters, 16), start()
    lone = [await text(engine, one) for one in crowd]
    assert len({tuple(words) for words in lone}) == len(lone)
    assert await asyncio.gather(*(text(engine, one) for one in crowd)) == lone
    small = start(rows=3)
    assert await asyncio.gather(*(text(small, one) for one in crowd[:7])) == lone[:7]


async def test_plain_text_is_the_same_before_and_after_the_first_adapter(
    start: Start, adapters: list[Adapter | None]
) -> None:
    engine, plain = start(), ([5, 6, 7] * 5, None, 1)
    before = await text(engine, plain, 60)
    running = asyncio.create_task(text(engine, plain, 60))
    while engine.stats().generated_tokens < 70:
        await asyncio.sleep(0)
    await text(engine, ([5, 6, 7] * 5, adapters[1], 1), 10)
    assert await running == before


async def test_prompts_are_reused_with_the_same_adapter_alone(start: Start, adapters: list[Adapter | None]) -> None:
    engine, prompt = start(), list(range(3, 43))
    said: dict[str | None, list[int]] = {}
    for adapter in (*adapters, *adapters):
        key = None if adapter is None else adapter.key
        generation = submit(engine, (prompt, adapter, 1))
        words = [token.id async for token in generation]
        assert (generation.cached_tokens > 0) == (key in said)
        assert said.setdefault(key, words) == words
    assert len({tuple(words) for words in said.values()}) == len(adapters)


async def test_preempted_rows_with_adapters_resume_identically(start: Start, adapters: list[Adapter | None]) -> None:
    crowd, roomy = asked(adapters, 8), start()
    expected = [await text(roomy, one, 40) for one in crowd]
    tight = start(kv_tokens=2 * CAPACITY)
    assert await asyncio.gather(*(text(tight, one, 40) for one in crowd)) == expected
    assert tight.stats().preemptions > 0


async def test_drafts_are_verified_with_the_rows_adapter(start: Start, adapters: list[Adapter | None]) -> None:
    greedy = SamplingParams(temperature=0)
    texts = {}
    for deterministic in (True, False):
        engine = start(deterministic=deterministic, rows=2)
        for adapter in adapters:
            prompt = [5, 6, 7, 8] * 8
            generation = engine.submit(prompt, max_tokens=60, sampling=greedy, adapter=adapter)
            texts[deterministic, adapter] = [token.id async for token in generation]
        assert (engine.stats().drafted > 0) != deterministic
    # A verifying chunk rounds otherwise than a decode step, so only the beginnings are sure to agree.
    assert all(texts[True, adapter][:6] == texts[False, adapter][:6] for adapter in adapters)


async def test_a_request_that_left_lets_its_adapter_go(start: Start, folder: Path) -> None:
    engine, cache = start(), AdapterCache(most=1)
    one = cache.get("one", lambda: tiny_adapter(folder, "llama", "qv"))
    async with aclosing(submit(engine, ([4] * 20, one, 1), 60).__aiter__()) as tokens:
        await anext(tokens)
        cache.get("other", lambda: tiny_adapter(folder, "llama", "all"))
        assert cache.get("one", lambda: pytest.fail("it is held by a request, and loaded again")) is one
        cache.get("other", lambda: tiny_adapter(folder, "llama", "all"))
    gone = weakref.ref(one)
    del one, tokens
    while engine.stats().running:
        await asyncio.sleep(0.001)
    await text(engine, ([4] * 20, None, 1), 2)
    gc.collect()
    assert gone() is None
    assert [adapter.name for adapter in cache.loaded()] == ["all"]


def test_the_cache_keeps_what_was_used_last_within_its_bounds(folder: Path) -> None:
    size = tiny_adapter(folder, "llama", "qv").size
    for cache in (AdapterCache(most=2), AdapterCache(size=2 * size)):
        for key in ("a", "b", "a", "c"):
            cache.get(key, lambda key=key: named(folder, key))  # type: ignore[misc]
        gc.collect()
        assert [adapter.name for adapter in cache.loaded()] == ["a", "c"]
    assert AdapterCache(size=1).get("a", lambda: named(folder, "a")).name == "a"


def named(folder: Path, name: str) -> Adapter:
    made = tiny_adapter(folder, "llama", "qv")
    return Adapter(name, name, made.rank, made.widths, made.factors)


async def test_a_model_that_takes_no_adapters_refuses_them(
    start_engine: StartEngine, adapters: list[Adapter | None]
) -> None:
    engine = start_engine()
    assert not engine.takes_adapters
    with pytest.raises(LoraUnsupported, match="does not support LoRa inference"):
        engine.submit([1, 2], max_tokens=1, adapter=adapters[0])
