"""Embeddings in process: the shapes that cards have, what their limits do, and what every answer comes with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.artifacts import TEXT_EMBEDDINGS, ArtifactStore
from runtime.pool import Pool
from tests.models.embedding import OLD, PAIRS, SCORES, SMALL, WIDE, embedders, write_sentence_transformer
from tests.worker.asking import GREEDY, MODEL
from tests.worker.live import live
from worker import AI, AiError
from worker.faults import Faults, parse_fault
from worker.recording import Recorder, Replayer
from wrangler_compat.app import create_app

pytestmark = pytest.mark.weights

TEXTS = ["A cat sat on the mat.", "Interest rates rose.", "Kittens like to sit on rugs."]
LONG = "every word counts " * 400
STAND_IN = "all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def ai() -> Iterator[AI]:
    binding = AI(catalog=embedders())
    yield binding
    asyncio.run(binding.aclose())


@pytest.fixture
async def remote(ai: AI) -> AsyncIterator[AI]:
    with live(create_app(AI(catalog=embedders()))) as url:
        async with aclosing(AI(url=url)) as binding:
            yield binding


async def asked(ai: AI, model: str, inputs: dict[str, Any]) -> dict[str, Any]:
    result = await ai.run(model, inputs)
    assert isinstance(result, dict)
    return result


async def vectors(ai: AI, model: str, inputs: dict[str, Any]) -> Any:
    return np.array((await asked(ai, model, inputs))["data"])


async def test_texts_become_vectors_in_the_platform_s_shape(ai: AI) -> None:
    result = await asked(ai, SMALL, {"text": TEXTS})
    assert list(result) == ["shape", "data", "pooling"]
    assert (result["shape"], result["pooling"]) == ([3, 384], "mean")
    found = np.array(result["data"])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    near = found @ found.T
    assert near[0, 2] > 0.5 > 0.2 > max(near[0, 1], near[1, 2])
    one = await asked(ai, SMALL, {"text": TEXTS[0]})
    assert one["shape"] == [1, 384]
    np.testing.assert_allclose(one["data"][0], found[0], rtol=0, atol=1e-6)


async def test_a_search_finds_what_is_meant(ai: AI) -> None:
    facts = [
        "Paris is the capital of France.",
        "Photosynthesis turns light into chemical energy.",
        "The Pacific is the largest ocean on earth.",
        "A violin has four strings.",
        "Water boils at a hundred degrees at sea level.",
        "Shakespeare wrote Hamlet.",
    ]
    questions = [
        "Which city is the French seat of government?",
        "How do plants make use of sunshine?",
        "What is the biggest body of water?",
        "How many strings does a fiddle have?",
        "At what temperature does water start to boil?",
        "Who is the author of Hamlet?",
    ]
    documents, queries = [await vectors(ai, SMALL, {"text": texts}) for texts in (facts, questions)]
    assert (queries @ documents.T).argmax(axis=1).tolist() == list(range(len(facts)))


async def test_a_pooling_may_be_chosen(ai: AI) -> None:
    mean, cls = [await asked(ai, SMALL, {"text": TEXTS, "pooling": pooling}) for pooling in ("mean", "cls")]
    assert (mean["pooling"], cls["pooling"]) == ("mean", "cls")
    assert np.abs(np.array(mean["data"]) - np.array(cls["data"])).max() > 0.01
    assert mean == await asked(ai, SMALL, {"text": TEXTS, "pooling": None})
    with pytest.raises(AiError, match="5006"):
        await ai.run(SMALL, {"text": TEXTS, "pooling": "max"})


async def test_a_stand_in_s_vectors_are_lengthened_with_zeros(ai: AI) -> None:
    small, wide = [await vectors(ai, model, {"text": TEXTS}) for model in (SMALL, WIDE)]
    assert wide.shape == (3, 768)
    assert not wide[:, 384:].any()
    np.testing.assert_allclose(wide[:, :384], small, rtol=0, atol=1e-6)


async def test_a_card_of_before_the_choice_tells_no_pooling(ai: AI) -> None:
    assert list(await asked(ai, OLD, {"text": "a"})) == ["shape", "data"]


async def test_what_is_past_the_card_s_limit_is_cut(ai: AI) -> None:
    for model, words in ((OLD, 14), (SMALL, 510)):
        whole, head = [
            await vectors(ai, model, {"text": " ".join(["word"] * words + [rest])}) for rest in ("tail " * 9, "")
        ]
        np.testing.assert_allclose(whole, head, rtol=0, atol=1e-5)
        shorter = await vectors(ai, model, {"text": " ".join(["word"] * (words - 1) + ["tail"])})
        assert np.abs(shorter - head).max() > 1e-4


async def test_contexts_come_as_vectors_or_as_scores(ai: AI) -> None:
    contexts = [{"text": text} for text in TEXTS]
    plain = await asked(ai, SCORES, {"contexts": contexts})
    assert (sorted(plain), plain["shape"], plain["pooling"]) == (["pooling", "response", "shape"], [3, 384], "mean")
    scored = await asked(ai, SCORES, {"query": "Where do cats sit?", "contexts": contexts})
    assert list(scored) == ["response"]
    assert [entry["id"] for entry in scored["response"]] == [2, 0, 1]
    (query,) = await vectors(ai, SCORES, {"text": "Where do cats sit?"})
    by_hand = sorted((np.array(plain["response"]) @ query).tolist(), reverse=True)
    np.testing.assert_allclose([entry["score"] for entry in scored["response"]], by_hand, rtol=0, atol=1e-5)


async def test_a_text_too_long_is_refused_unless_it_may_be_cut(ai: AI) -> None:
    for inputs in ({"text": LONG}, {"contexts": [{"text": LONG}]}, {"query": LONG, "contexts": [{"text": "a"}]}):
        with pytest.raises(AiError, match=r"input tokens \(1202\) exceeded .* \(64\)") as caught:
            await ai.run(SCORES, inputs)
        assert (caught.value.code, caught.value.status) == (5021, 413)
        assert await asked(ai, SCORES, {**inputs, "truncate_inputs": True})


async def test_queries_and_documents_come_in_that_order(ai: AI) -> None:
    found = await vectors(ai, PAIRS, {"documents": TEXTS[1:], "queries": TEXTS[0], "text": "more"})
    np.testing.assert_allclose(found, await vectors(ai, PAIRS, {"text": [*TEXTS, "more"]}), rtol=0, atol=1e-6)


REFUSED: list[tuple[str, Any, int, str]] = [
    (SMALL, {}, 5006, "required properties at '/' are 'text'"),
    (SMALL, {"text": ""}, 5006, "Bad input"),
    (SMALL, {"text": []}, 5006, "Bad input"),
    (SMALL, {"text": ["a", ""]}, 5006, "Bad input"),
    (SMALL, {"text": ["a"] * 101}, 5006, "Bad input"),
    (SMALL, {"text": [1, 2]}, 5006, "Bad input"),
    (SMALL, {"text": {"a": 1}}, 5006, "Bad input"),
    (SMALL, {"prompt": "a"}, 5006, "required properties at '/' are 'text'"),
    (SMALL, {"requests": [{"text": "a"}]}, 5902, "no queue for 'requests'"),
    (SCORES, {"contexts": [{}]}, 5006, "required properties at '/contexts/0' are 'text'"),
    (PAIRS, {}, 5006, "required properties at '/' are 'text'"),
    (PAIRS, {"queries": "\ud800"}, 5006, "Bad input"),
    (MODEL, {"text": "a"}, 5006, "'prompt'"),
]


@pytest.mark.parametrize(("model", "inputs", "code", "said"), REFUSED)
async def test_what_can_t_be_embedded_is_refused(ai: AI, model: str, inputs: Any, code: int, said: str) -> None:
    with pytest.raises(AiError, match=said) as caught:
        await ai.run(model, inputs)
    assert caught.value.code == code


async def test_an_answer_names_its_weights_and_its_cost(ai: AI) -> None:
    before = {row["model"]: row for row in ai.ledger.as_rows()}.get(SMALL, {"requests": 0, "prompt_tokens": 0})
    answer = await ai.generate(SMALL, {"text": TEXTS, "stream": True})
    assert not answer.streaming
    await answer.result()
    assert answer.usage is not None
    tokens = answer.usage.prompt_tokens
    assert (tokens > 15, answer.usage.completion_tokens) == (True, 0)
    assert answer.neurons is not None
    assert answer.neurons == pytest.approx(tokens * 0.02 / 1e6 / 0.011 * 1000)
    headers = answer.headers
    assert headers["cf-ai-neurons"] == str(round(answer.neurons, 4))
    assert (headers["x-roost-stand-in"], headers["x-roost-device"]) == (STAND_IN, "cpu")
    after = {row["model"]: row for row in ai.ledger.as_rows()}[SMALL]
    assert after["requests"] == before["requests"] + 1
    assert after["prompt_tokens"] == before["prompt_tokens"] + tokens


async def test_the_same_comes_from_afar(ai: AI, remote: AI) -> None:
    scored = {"query": "cats", "contexts": [{"text": text} for text in TEXTS]}
    for model, inputs in ((SMALL, {"text": TEXTS}), (SCORES, scored)):
        here, there = await asked(ai, model, inputs), await asked(remote, model, inputs)
        assert there.keys() == here.keys()
    np.testing.assert_allclose(
        await vectors(remote, SMALL, {"text": TEXTS}), await vectors(ai, SMALL, {"text": TEXTS}), rtol=0, atol=1e-6
    )
    with pytest.raises(AiError, match="5006"):
        await remote.run(SMALL, {})


async def test_whoever_leaves_stops_the_computation(ai: AI) -> None:
    await asked(ai, SMALL, {"text": "a"})
    (loaded,) = [model for model in ai.loaded() if SMALL in model.names]
    begun = loaded.stats().steps
    leaving = asyncio.create_task(asked(ai, SMALL, {"text": [LONG] * 100}))
    while loaded.stats().steps == begun:
        await asyncio.sleep(0.001)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert (loaded.stats().running, loaded.stats().waiting) == (0, 0)
    await asked(ai, SMALL, {"text": "a"})
    assert loaded.stats().steps - begun < 40  # all of it is fifty batches


async def test_one_loaded_encoder_answers_for_all(ai: AI) -> None:
    await asyncio.gather(*(asked(ai, model, {"text": "a"}) for model in (SMALL, WIDE, OLD)))
    (loaded,) = [model for model in ai.loaded() if SMALL in model.names]
    assert {SMALL, WIDE, OLD} <= loaded.names
    assert str(loaded.served_by(WIDE)) == f"{STAND_IN} (fp32) on cpu, standing in for {WIDE}"


async def test_idle_weights_go_and_text_and_embeddings_share_the_budget() -> None:
    async with aclosing(AI(catalog=embedders(), pool=Pool(ArtifactStore(), memory=1, keep_alive=1e-6))) as ai:
        await asked(ai, SMALL, {"text": "a"})
        await asked(ai, MODEL, GREEDY)
        assert [model.artifact.task for model in ai.loaded()] == ["text-generation"]
        while not ai.loaded()[0].idle:
            await asyncio.sleep(0.05)
        ai.pool.unload_idle()
        assert ai.loaded() == []
        assert (await asked(ai, SMALL, {"text": "a"}))["shape"] == [1, 384]


async def test_own_weights_answer_unlengthened_in_their_own_way(tmp_path: Path) -> None:
    from runtime.pull_model import Wanted, pull_from

    store = ArtifactStore(tmp_path / "cache")
    pull_from(store, Wanted(OLD, task=TEXT_EMBEDDINGS), write_sentence_transformer(tmp_path / "bert", normalised=False))
    async with aclosing(AI(catalog=embedders(), pool=Pool(store))) as ai:
        answer = await ai.generate(OLD, {"text": "w1 w2"})
        assert "x-roost-stand-in" not in answer.headers
        found = np.array((await answer.result())["data"])
        assert found.shape == (1, 64)
        assert abs(np.linalg.norm(found) - 1) > 0.1
        with pytest.raises(AiError, match=r"5901: .* has no weights here, nor has its stand-in all-MiniLM-L6-v2"):
            await ai.run(SMALL, {"text": "a"})


async def test_weights_for_another_task_say_so(tmp_path: Path) -> None:
    from runtime.pull_model import Wanted, pull_from

    store = ArtifactStore(tmp_path / "cache")
    pull_from(store, Wanted(MODEL, task=TEXT_EMBEDDINGS), write_sentence_transformer(tmp_path / "bert"))
    async with aclosing(AI(pool=Pool(store))) as ai:
        with pytest.raises(AiError, match=r"5904: .*bert is here for feature-extraction, and can't be used"):
            await ai.run(MODEL, GREEDY)


async def test_recordings_bring_vectors_back_without_weights(tmp_path: Path) -> None:
    inputs = {"text": TEXTS, "pooling": "cls"}
    async with aclosing(AI(catalog=embedders(), interposers=[Recorder(tmp_path)])) as ai:
        result = await asked(ai, SMALL, inputs)
    (path,) = tmp_path.glob("*.json")
    events = json.loads(path.read_text())["reply"]["events"]
    assert [next(iter(event)) for event in events] == ["result", "finished"]
    pool = Pool(ArtifactStore(tmp_path / "empty"))
    async with aclosing(AI(catalog=embedders(), pool=pool, interposers=[Replayer(tmp_path)])) as ai:
        for stream in ({}, {"stream": True}):
            answer = await ai.generate(SMALL, {**inputs, **stream})
            assert not answer.streaming
            assert await answer.result() == result
        with pytest.raises(AiError, match=r"5911: .* differs at /inputs/text/0"):
            await ai.run(SMALL, {**inputs, "text": ["Other.", *TEXTS[1:]]})


@pytest.mark.parametrize(("fault", "code"), [("3040:1", 3040), ("cut:1", 5907)])
async def test_faults_happen_to_embeddings_too(fault: str, code: int) -> None:
    async with aclosing(AI(catalog=embedders(), interposers=[Faults([parse_fault(fault)], 0)])) as ai:
        with pytest.raises(AiError) as caught:
            await ai.run(SMALL, {"text": "a"})
        assert caught.value.code == code
