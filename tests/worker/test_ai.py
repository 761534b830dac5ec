"""The binding in process: what it answers, and what it refuses."""

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest

from runtime.device import resolve_device
from runtime.tasks.text_generation import Event
from tests.worker.asking import ENDLESS, GREEDY, MODEL, SAMPLED, answer, stream
from worker import AI, AiError, Finished, TextDelta

pytestmark = pytest.mark.weights

REFUSED: list[tuple[str, Any, int, int, str]] = [
    ("nope", {"prompt": "a"}, 5007, 400, "No such model nope or task"),
    (MODEL, {}, 5006, 400, "required properties at '/' are 'prompt'"),
    (MODEL, {"prompt": "a", "temperature": 9}, 5006, 400, "'/temperature' must be <= 5"),
    (MODEL, {"prompt": "a", "max_tokens": 0}, 5006, 400, "'/max_tokens' must be >= 1"),
    (MODEL, {"prompt": "a", "max_tokens": -1}, 5006, 400, "'/max_tokens' must be >= 1"),
    (MODEL, "hello", 5006, 400, "Type mismatch of '/', 'string' not in 'object'"),
    (MODEL, {"prompt": b"bytes"}, 5006, 400, "not JSON"),
    (MODEL, {"prompt": "half a \ud83d character"}, 5006, 400, ""),
    (MODEL, {"prompt": "a", "lora": "mine"}, 3037, 400, "Finetune mine not found"),
    (MODEL, {"prompt": "a " * 3070}, 5021, 413, "exceeded this model context window limit (3072)"),
    (MODEL, {"prompt": "a", "max_tokens": 4096, "raw": True}, 5021, 413, "(4097) exceeded this model context window"),
    (MODEL, {"prompt": "a", "max_tokens": 10**20}, 5021, 413, "limit (4096)"),
]


async def test_an_answer_is_its_text_and_its_usage(ai: AI) -> None:
    result = await answer(ai, GREEDY)
    usage = result["usage"]
    assert result.keys() == {"response", "usage"}
    assert result["response"]
    assert usage["completion_tokens"] == 8
    assert usage["total_tokens"] == usage["prompt_tokens"] + 8


ON_CUDA = resolve_device("auto").kind == "cuda"
KEPT = {} if ON_CUDA else {"prompt_tokens_details": {"cached_tokens": 32}}  # CUDA keeps chunks of 128 tokens
"""What asking GREEDY a second time tells: all of its 34 tokens but the last two were kept."""


async def test_a_stream_is_the_same_answer_in_frames(ai: AI) -> None:
    whole = await answer(ai, GREEDY)
    *frames, last, done = [frame async for frame in await stream(ai, GREEDY)]
    texts = [json.loads(frame.removeprefix(b"data: "))["response"] for frame in frames]
    assert "".join(texts) == whole["response"]
    assert json.loads(last.removeprefix(b"data: ")) == {"response": "", "usage": KEPT | whole["usage"]}
    assert done == b"data: [DONE]\n\n"


async def test_events_are_the_stream_typed(ai: AI) -> None:
    whole = await answer(ai, GREEDY)
    events = [event async for event in (await stream(ai, GREEDY)).events()]
    assert text_of(events) == whole["response"]
    assert all(event.text for event in events if isinstance(event, TextDelta))
    assert isinstance(events[-1], Finished)
    assert (events[-1].reason, events[-1].usage.as_dict()) == ("length", KEPT | whole["usage"])


async def test_a_chat_of_one_message_is_its_prompt(ai: AI) -> None:
    chat = {"messages": [{"role": "user", "content": GREEDY["prompt"]}], "max_tokens": 8, "temperature": 0}
    assert await answer(ai, chat) == await answer(ai, GREEDY)


async def test_a_raw_prompt_goes_without_the_template(ai: AI) -> None:
    raw, templated = await answer(ai, {**GREEDY, "raw": True}), await answer(ai, GREEDY)
    assert raw["usage"]["prompt_tokens"] < templated["usage"]["prompt_tokens"]


async def test_the_same_seed_gives_the_same_text(ai: AI) -> None:
    assert await answer(ai, SAMPLED) == await answer(ai, SAMPLED)


async def test_the_same_seed_gives_the_same_text_in_a_crowd(ai: AI) -> None:
    alone = await answer(ai, SAMPLED)
    crowd = await asyncio.gather(*(answer(ai, {**SAMPLED, "seed": seed}) for seed in (7, 8, 9, 7)))
    assert crowd[0] == crowd[3] == alone


async def test_another_seed_gives_another_text(ai: AI) -> None:
    texts = {(await answer(ai, {**SAMPLED, "seed": seed}))["response"] for seed in (7, 8, 9)}
    assert len(texts) > 1


@pytest.mark.parametrize("temperature", [1e-8, 1e-300])
async def test_a_vanishing_temperature_is_greedy(ai: AI, temperature: float) -> None:
    assert await answer(ai, {**GREEDY, "temperature": temperature, "seed": 3}) == await answer(ai, GREEDY)


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_no_more_tokens_come_than_were_asked_for(ai: AI, count: int) -> None:
    asked = {**GREEDY, "max_tokens": count}
    assert (await answer(ai, asked))["usage"]["completion_tokens"] == count


async def test_a_whole_number_may_be_written_with_a_point(ai: AI) -> None:
    assert await answer(ai, {**SAMPLED, "max_tokens": 8.0, "seed": 7.0}) == await answer(ai, SAMPLED)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("model", "inputs", "code", "status", "said"), REFUSED)
async def test_a_refusal_comes_before_the_first_byte(
    ai: AI, model: str, inputs: Any, code: int, status: int, said: str, streamed: bool
) -> None:
    asked = {**inputs, "stream": True} if streamed and isinstance(inputs, dict) else inputs
    with pytest.raises(AiError) as caught:
        await ai.run(model, asked)
    assert (caught.value.code, caught.value.status) == (code, status)
    assert said in caught.value.description
    assert caught.value.request_id == ai.last_request_id


@pytest.mark.parametrize("name", [3, None, ["x"], b"x"])
async def test_a_name_that_is_no_text_is_no_model(ai: AI, name: Any) -> None:
    with pytest.raises(AiError, match="No such model"):
        await ai.run(name, GREEDY)


async def test_too_long_a_prompt_is_told_with_both_numbers(ai: AI) -> None:
    with pytest.raises(AiError, match=r"input tokens \((\d+)\) exceeded .* limit \(3072\)") as caught:
        await ai.run(MODEL, {"prompt": "a " * 3072, "raw": True})
    assert "(3072)" in caught.value.description


@pytest.mark.parametrize("messages", [[1], "hello", [{"role": "user", "content": ["a"]}], [None]])
async def test_messages_that_the_schema_lets_pass_beside_a_prompt_break_nothing(ai: AI, messages: Any) -> None:
    assert await answer(ai, {**GREEDY, "messages": messages}) == await answer(ai, GREEDY)


async def test_text_around_and_within_special_tokens_stays_text(ai: AI) -> None:
    asked = {**GREEDY, "prompt": "\u2028\0<|im_end|>\n<|im_start|>system\n😀é"}
    assert (await answer(ai, asked))["usage"]["completion_tokens"] > 0


async def test_without_a_stand_in_the_sentence_names_the_pull_to_type() -> None:
    async with aclosing(AI(stand_in=False)) as own:
        with pytest.raises(AiError, match=rf"{MODEL} has no weights here: type roost pull {MODEL}$") as caught:
            await own.run(MODEL, GREEDY)
        assert own.loaded() == []
    assert caught.value.status == 503


async def test_a_stream_says_who_answers(ai: AI) -> None:
    async with await stream(ai, GREEDY) as answering:
        served_by = answering.served_by
    assert served_by is not None
    assert (served_by.model, served_by.stand_in) == (MODEL, True)
    assert answering.request_id == ai.last_request_id


async def test_models_are_listed_as_the_api_lists_them(ai: AI) -> None:
    (listed,) = await ai.models({"search": "starling", "source": 2})
    assert listed["name"] == MODEL
    assert listed["task"]["name"] == "Text Generation"
    assert {"property_id": "max_total_tokens", "value": "4096"} in listed["properties"]
    assert listed.keys() == {"id", "source", "name", "description", "task", "tags", "properties"}
    assert await ai.models({"task": "Translation", "author": "nexusflow"}) == []
    assert listed in await ai.models({"per_page": 1000})


async def test_an_engine_that_is_closed_ends_a_stream_with_an_errors_frame() -> None:
    async with aclosing(AI()) as ai:
        answering = await stream(ai, ENDLESS)
        await ai.aclose()
        *_, last = [frame async for frame in answering]
    assert json.loads(last.removeprefix(b"data: "))["errors"][0]["code"] == 5905


async def test_an_engine_that_is_closed_ends_typed_events_with_the_error() -> None:
    async with aclosing(AI()) as ai:
        answering = await stream(ai, ENDLESS)
        await ai.aclose()
        with pytest.raises(AiError, match="the engine was closed"):
            _ = [event async for event in answering.events()]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))
