"""Structured output: the answer is JSON of the schema whatever the weights say, or an error that says why not."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.worker.asking import GREEDY, MODEL, SAMPLED, answer, stream
from worker import AI, AiError

pytestmark = pytest.mark.weights

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": SCHEMA}
ASKED: dict[str, Any] = {"prompt": "Describe Ada, aged 36.", "response_format": FORM, "temperature": 0}


@pytest.fixture
async def everywhere() -> AsyncIterator[AI]:
    """A binding that takes JSON Schemas for every model."""
    async with aclosing(AI(json_everywhere=True)) as ai:
        yield ai


@pytest.mark.parametrize("hostile", [{}, {"temperature": 5, "seed": 1}, {"temperature": 5, "seed": 2, "top_k": 50}])
async def test_the_answer_is_an_object_of_the_schema(everywhere: AI, hostile: dict[str, Any]) -> None:
    result = await answer(everywhere, {**ASKED, **hostile})
    Draft202012Validator(SCHEMA).validate(result["response"])


async def test_the_schema_may_be_wrapped_as_openai_s_is(everywhere: AI) -> None:
    wrapped = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": SCHEMA}}
    assert await answer(everywhere, {**ASKED, "response_format": wrapped}) == await answer(everywhere, ASKED)


async def test_a_plain_object_is_promised_by_every_card(ai: AI) -> None:
    asked = {"prompt": "Give me JSON with name and age.", "response_format": {"type": "json_object"}, "temperature": 0}
    assert isinstance((await answer(ai, asked))["response"], dict)


async def test_text_is_text(ai: AI) -> None:
    assert await answer(ai, {**GREEDY, "response_format": {"type": "text"}}) == await answer(ai, GREEDY)


async def test_a_stream_carries_the_same_json_as_text(everywhere: AI) -> None:
    whole = (await answer(everywhere, ASKED))["response"]
    *frames, _, done = [frame async for frame in await stream(everywhere, ASKED)]
    assert json.loads("".join(json.loads(frame[6:])["response"] for frame in frames)) == whole
    assert done == b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("change", "code", "status", "said"),
    [
        ({"max_tokens": 5}, 5024, 400, "JSON Mode couldn't be met: the answer ended after 5 tokens, inside its JSON"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"not": {}}}},
            5006,
            400,
            "'/response_format' can't be compiled: no grammar holds 'not' at '/'",
        ),
        ({"response_format": {"type": "json_schema"}}, 5006, 400, "'/response_format/json_schema' must be an object"),
        ({"response_format": {"type": "yaml"}}, 5006, 400, "enum yaml not in text,json_object,json_schema"),
        ({"response_format": "json"}, 5006, 400, "'/response_format' must be an object"),
    ],
)
async def test_what_cannot_be_promised_is_an_error(
    everywhere: AI, change: dict[str, Any], code: int, status: int, said: str
) -> None:
    with pytest.raises(AiError) as caught:
        await everywhere.run(MODEL, {**ASKED, **change})
    assert (caught.value.code, caught.value.status) == (code, status)
    assert said in caught.value.description


async def test_a_card_without_json_mode_says_so(ai: AI) -> None:
    with pytest.raises(AiError, match="This model doesn't support JSON Schema") as caught:
        await ai.run(MODEL, ASKED)
    assert (caught.value.code, caught.value.status) == (5025, 400)


async def test_a_cut_stream_ends_in_the_error(everywhere: AI) -> None:
    *_, last = [frame async for frame in await stream(everywhere, {**ASKED, "max_tokens": 5})]
    assert json.loads(last[6:])["errors"][0]["code"] == 5024


async def test_free_requests_beside_constrained_ones_say_the_same(everywhere: AI) -> None:
    alone = [await answer(everywhere, inputs) for inputs in (GREEDY, SAMPLED)]
    constrained = [answer(everywhere, {**ASKED, "seed": seed, "temperature": 1}) for seed in range(1, 6)]
    free = [answer(everywhere, inputs) for inputs in (GREEDY, SAMPLED)]
    together = await asyncio.gather(*free, *constrained)
    assert together[:2] == alone
    for result in together[2:]:
        Draft202012Validator(SCHEMA).validate(result["response"])


async def test_a_constrained_answer_is_the_same_in_a_crowd(everywhere: AI) -> None:
    asked = {**ASKED, "temperature": 1, "seed": 9}
    alone = await answer(everywhere, asked)
    crowd = await asyncio.gather(*(answer(everywhere, {**asked, "seed": seed}) for seed in (8, 9, 10)))
    assert crowd[1] == alone


async def test_a_schema_holds_where_words_depend_on_load_too() -> None:
    async with aclosing(AI(json_everywhere=True, deterministic=False)) as ai:
        for _ in range(3):
            Draft202012Validator(SCHEMA).validate((await answer(ai, ASKED))["response"])
