"""What OpenAI's clients of other years, and of next year, send: the same things in other words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel, Field

from tests.worker.asking import GREEDY, MODEL
from tests.worker.live import live
from tests.wrangler_compat.conftest import ACCOUNT
from worker import AI
from wrangler_compat.app import create_app

pytestmark = pytest.mark.weights

CHAT: Any = [{"role": "user", "content": GREEDY["prompt"]}]
SETTINGS: dict[str, Any] = {"model": MODEL, "temperature": 0}
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
}
FUNCTION: Any = {"name": "weather", "description": "The weather", "parameters": PARAMETERS}
CLOCK: Any = {"name": "clock", "parameters": {"type": "object", "properties": {}}}
TOOLS: Any = [{"type": "function", "function": CLOCK}, {"type": "function", "function": FUNCTION}]
WEATHER_ALONE: Any = [{"type": "function", "function": {"name": "weather"}}]


@pytest.fixture(scope="module")
def client() -> Iterator[OpenAI]:
    """A client of a roost that takes JSON Schemas for every model."""
    with live(create_app(AI(json_everywhere=True))) as url:
        base = f"{url}/client/v4/accounts/{ACCOUNT}/ai/v1"
        with OpenAI(base_url=base, api_key="any", max_retries=0) as sdk:
            yield sdk


class Weather(BaseModel):
    """The weather of a city."""

    city: Literal["Paris", "Rome"]


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=0, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    good: bool


class Household(BaseModel):
    pet: Cat | Dog = Field(discriminator="kind")


@pytest.mark.parametrize("model", [Weather, Household])
def test_a_parsed_chat_is_the_model_that_was_asked_for(client: OpenAI, model: type[BaseModel]) -> None:
    said = client.chat.completions.parse(messages=CHAT, response_format=model, **SETTINGS).choices[0].message
    assert isinstance(said.parsed, model)
    with client.chat.completions.stream(messages=CHAT, response_format=model, **SETTINGS) as stream:
        streamed = stream.get_final_completion()
    assert streamed.choices[0].message.parsed == said.parsed
    answer = client.responses.parse(input=CHAT, text_format=model, **SETTINGS)
    assert answer.output_parsed == said.parsed
    assert answer.text is not None
    assert answer.text.format is not None
    assert answer.text.format.type == "json_schema"


def test_the_sdk_accumulates_a_streamed_call_to_the_whole_one(client: OpenAI) -> None:
    asked: dict[str, Any] = {"messages": CHAT, "tools": [openai.pydantic_function_tool(Weather)], **SETTINGS}
    whole = client.chat.completions.parse(tool_choice="required", **asked).choices[0]
    with client.chat.completions.stream(tool_choice="required", **asked) as stream:
        streamed = stream.get_final_completion().choices[0]
    (said,), (told,) = list(whole.message.tool_calls or []), list(streamed.message.tool_calls or [])
    assert isinstance(said.function.parsed_arguments, Weather)
    assert told.function.parsed_arguments == said.function.parsed_arguments
    assert (streamed.finish_reason, streamed.message.content) == (whole.finish_reason, whole.message.content)


@pytest.mark.parametrize("streamed", [False, True])
def test_functions_are_tools_and_answered_as_functions(client: OpenAI, streamed: bool) -> None:
    asked: dict[str, Any] = {"functions": [FUNCTION, CLOCK], "function_call": {"name": "weather"}, **SETTINGS}
    if streamed:
        choices = [chunk.choices[0] for chunk in client.chat.completions.create(messages=CHAT, stream=True, **asked)]
        (call,) = [choice.delta.function_call for choice in choices if choice.delta.function_call]
        assert choices[-1].finish_reason == "function_call"
        assert not any(choice.delta.tool_calls for choice in choices)
        name, arguments = call.name, call.arguments or ""
    else:
        choice = client.chat.completions.create(messages=CHAT, **asked).choices[0]
        assert choice.message.function_call is not None
        assert (choice.finish_reason, choice.message.tool_calls) == ("function_call", None)
        name, arguments = choice.message.function_call.name, choice.message.function_call.arguments
        history: Any = [*CHAT, choice.message.model_dump(), {"role": "function", "name": "weather", "content": "sun"}]
        assert client.chat.completions.create(messages=history, functions=[FUNCTION], max_tokens=3, **SETTINGS).choices
    assert (name, json.loads(arguments).keys()) == ("weather", {"city"})


def test_allowed_tools_are_the_ones_that_are_told(client: OpenAI) -> None:
    allowed: Any = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": WEATHER_ALONE}}
    asked: dict[str, Any] = {"messages": CHAT, **SETTINGS}
    (choice,) = client.chat.completions.create(tools=TOOLS, tool_choice=allowed, **asked).choices
    (alone,) = client.chat.completions.create(tools=TOOLS[1:], tool_choice="required", **asked).choices
    (call,), (other,) = list(choice.message.tool_calls or []), list(alone.message.tool_calls or [])
    assert call.to_dict()["function"] == other.to_dict()["function"]
    flat: Any = [{"type": "function", **FUNCTION}, {"type": "function", **CLOCK}]
    one: Any = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "clock"}]}
    (item,) = client.responses.create(input=CHAT, tools=flat, tool_choice=one, **SETTINGS).output
    assert item.type == "function_call"
    assert item.name == "clock"


def test_instructions_alone_are_a_response_s_input(client: OpenAI) -> None:
    assert client.responses.create(instructions="Say hi.", max_output_tokens=16, **SETTINGS).output_text


def test_a_response_of_nothing_streams_the_message_that_it_is(client: OpenAI) -> None:
    asked: dict[str, Any] = {"input": CHAT, "extra_body": {"stop": [" "]}, "max_output_tokens": 16, **SETTINGS}
    first = client.responses.create(**asked).output_text
    asked["extra_body"] = {"stop": [first[:1]]}
    whole = client.responses.create(**asked)
    assert [item.type for item in whole.output] == ["message"]
    assert whole.output_text == ""
    *_, last = client.responses.create(stream=True, **asked)
    assert last.type == "response.completed"
    assert [item.type for item in last.response.output] == ["message"]


CUSTOM: Any = {"type": "custom", "custom": {"name": "x"}}
IMAGE: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("chat", {"n": 2}, "'/n' must be 1"),
    ("chat", {"tools": [CUSTOM]}, "'/tools/0' must be a function"),
    ("chat", {"tools": [7]}, "'/tools/0' must be an object"),
    ("chat", {"functions": {}, "function_call": "auto", "messages": IMAGE}, "'array' not in 'string'"),
    ("chat", {"functions": {"a": 1}}, "'/functions' must be a list"),
    ("chat", {"tools": TOOLS, "tool_choice": {"type": "allowed_tools"}}, "'/tool_choice/tools' must be a list"),
    (
        "chat",
        {"tools": TOOLS, "tool_choice": {"type": "allowed_tools", "allowed_tools": 7}},
        "'/tool_choice/allowed_tools' must be an object",
    ),
    ("response", {"input": None}, "'/input' must be text or a list of items"),
    ("response", {"input": [{"type": "item_reference", "id": "x"}]}, "'/input/0': an item of the type item_reference"),
    ("response", {"tools": [{"name": "typeless"}]}, "'/tools/0' must be a function"),
]


@pytest.mark.parametrize(("kind", "change", "said"), REFUSED)
def test_what_is_not_emulated_is_named(client: OpenAI, kind: str, change: dict[str, Any], said: str) -> None:
    path, body = {"chat": ("/chat/completions", {"messages": CHAT}), "response": ("/responses", {"input": "a"})}[kind]
    with pytest.raises(openai.APIStatusError, match=said):
        client.post(path, body={"model": MODEL, **body, **change}, cast_to=object)


def test_an_unknown_route_and_method_are_named_in_the_sdk_s_exception(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="7003: Could not route to /client/v4"):
        client.responses.retrieve("resp_1")
    with pytest.raises(openai.APIStatusError, match="7001: DELETE not supported for requested URI"):
        client.models.delete(MODEL)
