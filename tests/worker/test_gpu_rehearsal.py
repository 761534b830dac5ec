"""The whole way of a request on a GPU but for the GPU: the stand-in's graph for CUDA, run by the CPU in CUDA's place.

Two devices are made up. What ONNX Runtime's CUDA provider makes of it is tests/runtime/test_cuda.py's to prove.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime import cuda_driver, loading, pool
from runtime.artifacts import ArtifactStore
from runtime.config import EngineConfig
from runtime.cuda_driver import Gpu
from runtime.device import Device
from runtime.errors import NoWeights
from runtime.pool import Pool
from runtime.pull import pull_stand_in
from runtime.session import DecoderSession
from runtime.stand_in import CUDA_KEY, GGUF_NAME, KEY
from tests.runtime.test_cuda import ABSENT, GPU
from tests.worker.asking import MODEL, answer, stats
from tests.worker.live import live
from worker import AI
from wrangler_compat.app import create_app

pytestmark = pytest.mark.weights

CONFIG = EngineConfig(rows=3, kept_prompts=1, context=512)
GPUS = [Gpu(0, "Stub A", 1 << 30, 8 << 30), Gpu(1, "Stub B", 8 << 30, 8 << 30)]
STORY: dict[str, Any] = {"prompt": "Tell me a story of a fox. " * 22, "max_tokens": 12, "temperature": 0.9, "seed": 11}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    """A store that has the stand-in's download, and its artifact for CUDA alone."""
    gguf = ArtifactStore().downloads / GGUF_NAME
    assert gguf.is_file(), "run make setup"
    made = ArtifactStore(tmp_path_factory.mktemp("cuda"))
    made.downloads.mkdir()
    (made.downloads / GGUF_NAME).symlink_to(gguf)
    artifact = pull_stand_in(made, device=Device("cuda", None))
    assert (artifact.folder.name, artifact.manifest.half, artifact.manifest.stand_in) == (CUDA_KEY, True, True)
    assert made.find(KEY) is None
    return made


def on_the_cpu(model: Path, **options: Any) -> DecoderSession:
    return DecoderSession(model, **{**options, "device": Device(), "steady": options["device"].kind == "cuda"})


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "resolve_device", lambda wanted: Device("cuda", None, automatic=wanted == "auto"))
    monkeypatch.setattr(cuda_driver, "gpus", lambda: GPUS)
    monkeypatch.setattr(cuda_driver, "gpu", lambda index: GPUS[index])
    monkeypatch.setattr(cuda_driver, "count", lambda: len(GPUS))
    monkeypatch.setattr(cuda_driver, "total_memory", lambda index: GPUS[index].total)
    monkeypatch.setattr(loading, "DecoderSession", on_the_cpu)


@pytest.fixture
async def ai(store: ArtifactStore, made_up: None) -> AsyncIterator[AI]:
    async with aclosing(AI(pool=Pool(store, device="cuda", config=CONFIG))) as binding:
        yield binding


async def text(ai: AI, inputs: dict[str, Any]) -> str:
    said: str = (await answer(ai, inputs))["response"]
    return said


async def test_words_are_the_same_alone_in_a_crowd_and_from_a_kept_prompt(ai: AI) -> None:
    await says_the_same(ai)


@pytest.mark.gpu
@ABSENT
async def test_words_are_the_same_on_a_gpu() -> None:
    """No rehearsal: the stand-in on CUDA."""
    async with aclosing(AI(pool=Pool(ArtifactStore(), device=str(GPU), config=CONFIG))) as ai:
        await says_the_same(ai)
        (loaded,) = ai.loaded()
        assert (loaded.device, loaded.same_words) == (GPU, True)


async def says_the_same(ai: AI) -> None:
    alone = await text(ai, STORY)
    others = [text(ai, {**STORY, "prompt": f"{place}! " * 9, "seed": place}) for place in range(1, 7)]
    assert (await asyncio.gather(text(ai, STORY), *others))[0] == alone
    result = await ai.run(MODEL, STORY)
    assert isinstance(result, dict)
    assert result["response"] == alone
    assert stats(ai).running == 0


async def test_the_device_with_most_memory_free_computes_and_is_named(ai: AI) -> None:
    await text(ai, {**STORY, "max_tokens": 1})
    (loaded,) = ai.loaded()
    assert loaded.device == Device("cuda", 1)
    assert "on cuda:1, standing in" in str(loaded.served_by(MODEL))

    def asked() -> dict[str, Any]:
        with live(create_app(ai)) as url:
            (row,) = httpx.get(f"{url}/cdn-cgi/local/ps").raise_for_status().json()["loaded"]
            return dict(row)

    row = await asyncio.to_thread(asked)
    assert (row["device"], row["chip"], row["same_words"]) == ("cuda:1", "Stub B", True)


async def test_a_gpu_too_small_is_the_cpu_under_auto(
    store: ArtifactStore, made_up: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cuda_driver, "gpu", lambda _index: GPUS[0])
    async with aclosing(AI(pool=Pool(store, device="auto", config=CONFIG))) as ai:
        assert await text(ai, {**STORY, "max_tokens": 2})
        assert ai.loaded()[0].device == Device()
    assert "runs on the CPU, not on cuda" in caplog.text


def test_without_its_graph_for_cuda_the_stand_in_says_what_to_type(made_up: None, tmp_path: Path) -> None:
    with pytest.raises(NoWeights, match=r"type roost pull --stand-in --device cuda$"):
        Pool(ArtifactStore(tmp_path), device="cuda").artifact(MODEL)
