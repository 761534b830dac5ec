"""A request's ``lora``: which cards take it, which fine-tune it names, and what the answer is made with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from catalog import Catalog, ModelCard, Property, load_card
from runtime.artifacts import ArtifactStore
from runtime.config import EngineConfig
from runtime.finetunes import Finetune, FinetuneStore
from runtime.pool import Pool
from runtime.pull_model import Wanted, pull_from
from tests.models.checkpoint import write_checkpoint
from tests.runtime.reference.smollm2_adapter import KIND, write_smollm2_adapter
from tests.runtime.reference.tiny_adapters import Kind, write_tiny_adapter
from tests.worker.asking import MODEL, answer
from worker import AI, AiError
from worker.lora import wanted_lora

ASKED: dict[str, Any] = {"prompt": "Tell me of the sea.", "max_tokens": 24, "temperature": 0.8, "seed": 3}
CARDS = Path(__file__).parents[2] / "catalog" / "cards"
QV = Kind(("q_proj", "v_proj"), {"r": 8, "lora_alpha": 1.0})
WIDE = Kind(KIND.targets, {"r": 24, "lora_alpha": 1.0})


def write_adapters(store: FinetuneStore, folder: Path) -> None:
    """Three fine-tunes for :data:`MODEL` that fit the stand-in, of different ranks and targets."""
    for seed, (name, kind) in enumerate({"first": KIND, "second": QV, "third": WIDE}.items(), 1):
        write_smollm2_adapter(folder / name, seed=seed, kind=kind)
        store.create_from(MODEL, name, folder / name)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the stand-in of the user's, and fine-tunes of its own."""
    root = tmp_path_factory.mktemp("cache")
    (root / "artifacts").symlink_to(ArtifactStore().root / "artifacts")
    write_adapters(FinetuneStore(root), tmp_path_factory.mktemp("adapters"))
    return root


def binding(root: Path, **options: Any) -> AI:
    return AI(pool=Pool(ArtifactStore(root), config=EngineConfig(context=512, **options)))


@pytest.fixture
async def ai(root: Path) -> AsyncIterator[AI]:
    async with aclosing(binding(root)) as ai:
        yield ai


async def text(ai: AI, **inputs: Any) -> str:
    response: str = (await answer(ai, {**ASKED, **inputs}))["response"]
    return response


@pytest.mark.weights
async def test_a_request_has_the_adapter_that_it_names(ai: AI) -> None:
    plain = await text(ai)
    said = {name: await text(ai, lora=name) for name in ("first", "second", "third")}
    assert len({plain, *said.values()}) == 4
    assert await text(ai, lora=ai.finetunes.find("first").id) == said["first"]
    assert await text(ai, lora=None) == await text(ai, lora="") == plain
    chat = {"messages": [{"role": "user", "content": ASKED["prompt"]}]}
    asked = {name: value for name, value in ASKED.items() if name != "prompt"} | chat
    assert (await answer(ai, {**asked, "lora": "first"}))["response"] == said["first"]  # as its documentation has it
    assert [adapter.name for adapter in ai.loaded()[0].adapters.loaded()] == ["first", "second", "third"]


@pytest.mark.weights
async def test_a_crowd_with_adapters_changes_no_word(root: Path) -> None:
    names = ["first", "second", None, "third", None, "second", "first", "third"]
    async with aclosing(binding(root, rows=1, kept_prompts=0)) as ai:
        lone = [await text(ai, lora=name, seed=place + 1) for place, name in enumerate(names)]
    async with aclosing(binding(root, rows=8, chunk_tokens=5)) as ai:
        for _ in range(2):
            crowd = (text(ai, lora=name, seed=place + 1) for place, name in enumerate(names))
            assert await asyncio.gather(*crowd) == lone


@pytest.mark.weights
@pytest.mark.parametrize(
    ("wanted", "code", "sentence"),
    [
        ("nope", 3037, "Finetune nope not found"),
        ("elsewhere", 3037, f"Finetune elsewhere not found for {MODEL}: it was created for @cf/a/other"),
        ("half", 3039, "Finetune is missing required files"),
        (7, 5006, "Type mismatch of '/lora', 'integer' not in 'string'"),
        ("tiny", 5908, "q_proj of [64, 64], the weights that answer have [576, 576]: it was made for another model"),
    ],
)
async def test_what_cannot_be_had_is_refused(ai: AI, tmp_path: Path, wanted: Any, code: int, sentence: str) -> None:
    store = ai.finetunes
    write_tiny_adapter(tmp_path, "llama", "qv")
    made: dict[str, Finetune] = {
        "elsewhere": store.create_from("@cf/a/other", "elsewhere", tmp_path),
        "half": store.create(MODEL, "half"),
        "tiny": store.create_from(MODEL, "tiny", tmp_path),
    }
    try:
        for asked in (ASKED, {"messages": [{"role": "user", "content": "a"}]}):
            with pytest.raises(AiError, match=f"^{code}: ") as refusal:
                await ai.run(MODEL, {**asked, "lora": wanted})
            assert sentence in refusal.value.description
    finally:
        for name in made:
            store.remove(name)


async def test_weights_that_take_no_adapters_refuse_them(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "cache")
    decoder = pull_from(store, Wanted(MODEL, "fp32"), write_checkpoint(tmp_path / "tiny")).decoder
    decoder.write_bytes(decoder.read_bytes().replace(b"layer0.qkv", b"somebody's"))  # a graph of somebody else's making
    write_tiny_adapter(tmp_path, "llama", "qv")
    FinetuneStore(store.root).create_from(MODEL, "mine", tmp_path)
    async with aclosing(AI(pool=Pool(store, config=EngineConfig(context=64)))) as ai:
        assert await text(ai, max_tokens=4)
        with pytest.raises(AiError, match=f"^5005: AiError: Ai: The model {MODEL} does not support LoRa inference"):
            await text(ai, max_tokens=4, lora="mine")


def card(name: str, **changes: Any) -> ModelCard:
    seed = load_card(CARDS / "starling-lm-7b-beta.md")
    return seed.model_copy(update={"name": name, **changes})


def schema(*fields: str) -> dict[str, Any]:
    return {"type": "object", "properties": {field: {"type": "string"} for field in fields}}


@pytest.mark.parametrize(
    ("fields", "stated", "takes"),
    [
        (("prompt", "lora"), None, True),
        (("prompt",), "true", True),
        (("prompt",), "false", False),
        (("prompt",), None, False),
    ],
)
def test_the_card_says_who_takes_one(fields: tuple[str, ...], stated: str | None, takes: bool) -> None:
    properties = () if stated is None else (Property(property_id="lora", value=stated),)
    one = card("@cf/a/b", input_schema=schema(*fields), properties=properties)
    assert one.takes_lora == takes
    if takes:
        assert wanted_lora(one, {"lora": "mine"}) == "mine"
    else:
        with pytest.raises(Exception, match="The model @cf/a/b does not support LoRa inference"):
            wanted_lora(one, {"lora": "mine"})
    assert wanted_lora(one, {"prompt": "a"}) is None


def test_the_seed_takes_one() -> None:
    assert Catalog.load()[MODEL].takes_lora
