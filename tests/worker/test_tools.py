"""Tools through the binding: forced calls are well formed, free ones may be words, histories round-trip."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.worker.asking import MODEL, answer, stream
from worker import AI, AiError, Finished, ToolCall

pytestmark = pytest.mark.weights

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "maximum": 9}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"name": "weather", "description": "The weather of a city", "parameters": PARAMETERS}
TIME = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}
CHAT = [{"role": "user", "content": "What is the weather in Paris?"}]
ASKED: dict[str, Any] = {"messages": CHAT, "tools": [WEATHER, TIME], "temperature": 0}
WEATHER_ALONE = {"type": "function", "function": {"name": "weather"}}
HOSTILE = {"temperature": 5, "seed": 4, "max_tokens": 100}


@pytest.mark.parametrize("choice", [WEATHER_ALONE, {"name": "weather"}])
@pytest.mark.parametrize("sampling", [{}, HOSTILE])
async def test_a_named_tool_is_called_with_arguments_of_its_schema(ai: AI, choice: Any, sampling: Any) -> None:
    result = await answer(ai, {**ASKED, **sampling, "tool_choice": choice})
    (call,) = result["tool_calls"]
    assert (call["name"], result["response"]) == ("weather", "")
    Draft202012Validator(PARAMETERS).validate(call["arguments"])


@pytest.mark.parametrize("seed", range(1, 4))
async def test_a_required_call_is_one_of_the_tools(ai: AI, seed: int) -> None:
    tools = [WEATHER, {**WEATHER, "name": "climate"}]
    result = await answer(ai, {**ASKED, **HOSTILE, "tools": tools, "seed": seed, "tool_choice": "required"})
    (call,) = result["tool_calls"]
    assert call["name"] in ("weather", "climate")
    Draft202012Validator(PARAMETERS).validate(call["arguments"])


async def test_a_call_is_streamed_whole(ai: AI) -> None:
    asked = {**ASKED, "tool_choice": WEATHER_ALONE}
    whole = await answer(ai, asked)
    frames = [frame async for frame in await stream(ai, asked)]
    assert json.loads(frames[0][6:]) == {"response": "", "tool_calls": whole["tool_calls"]}
    assert frames[-1] == b"data: [DONE]\n\n"
    events = [event async for event in (await stream(ai, asked)).events()]
    assert [type(event) for event in events] == [ToolCall, Finished]


async def test_without_a_choice_the_model_may_answer_in_words(ai: AI) -> None:
    result = await answer(ai, ASKED)
    assert result.get("tool_calls") or result["response"]


async def test_tools_that_may_not_be_called_are_not_told(ai: AI) -> None:
    assert await answer(ai, {**ASKED, "tool_choice": "none"}) == await answer(ai, {"messages": CHAT, "temperature": 0})


async def test_a_call_and_its_result_may_stand_in_the_history(ai: AI) -> None:
    call = {"id": "x", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
    history = [
        *CHAT,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "x", "name": "weather", "content": "sunny"},
    ]
    told = await answer(ai, {**ASKED, "messages": history, "max_tokens": 5})
    assert told["usage"]["prompt_tokens"] > (await answer(ai, {**ASKED, "max_tokens": 5}))["usage"]["prompt_tokens"]


async def test_parts_of_text_are_text(ai: AI) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": CHAT[0]["content"]}]}]
    plain = await answer(ai, {"messages": CHAT, "max_tokens": 5, "temperature": 0})
    assert await answer(ai, {"messages": parts, "max_tokens": 5, "temperature": 0}) == plain


async def test_json_may_stand_beside_tools(ai: AI) -> None:
    result = await answer(ai, {**ASKED, "response_format": {"type": "json_object"}, "max_tokens": 200})
    assert result.get("tool_calls") or isinstance(result["response"], dict)


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"tool_choice": {"name": "nope"}}, 5006, "asks for a tool that '/tools' doesn't have"),
        ({"tools": [], "tool_choice": "required"}, 5006, "asks for a tool"),
        ({"tool_choice": 7}, 5006, "'/tool_choice' must be"),
        ({"tools": [{"description": "nameless"}]}, 5006, "required properties at '/tools/0' are 'name'"),
        ({"tools": "weather"}, 5006, "'/tools' must be a list"),
        ({"tool_choice": WEATHER_ALONE, "max_tokens": 3}, 5024, "ended after 3 tokens, inside its tool call"),
        (
            {"tools": [{"name": "a", "parameters": {"not": {}}}], "tool_choice": "required"},
            5006,
            "'/tools' can't be compiled",
        ),
        ({"messages": [{"role": "user", "content": None}]}, 5006, "'null' not in 'string'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 5006, "'array' not in 'string'"),
    ],
)
async def test_what_makes_no_sense_is_refused(ai: AI, change: dict[str, Any], code: int, said: str) -> None:
    with pytest.raises(AiError) as caught:
        await ai.run(MODEL, {**ASKED, **change})
    assert caught.value.code == code
    assert said in caught.value.description
