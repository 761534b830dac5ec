"""One table of cases through every door: in process, from a script, REST, OpenAI and the binding's wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx
import pytest

from tests.worker.asking import GREEDY, MODEL
from worker import AI, AiError

pytestmark = pytest.mark.weights

WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "The weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
CHAT = [{"role": "user", "content": GREEDY["prompt"]}]
GREEDY_CHAT = {"messages": CHAT, "max_tokens": 8, "temperature": 0}
PARTS = [{"role": "user", "content": [{"type": "text", "text": GREEDY["prompt"]}]}]
JSON_CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Give me JSON with name and age."}],
    "response_format": {"type": "json_object"},
    "temperature": 0,
}
CITY: dict[str, Any] = WEATHER["parameters"]
HISTORY = [
    *CHAT,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "a", "content": "sun"},
]
CALL = {"messages": CHAT, "tools": [{"type": "function", "function": WEATHER}], "tool_choice": "required", "seed": 3}
SCHEMA = {"response_format": {"type": "json_schema", "json_schema": {"type": "object"}}}


@dataclass(frozen=True)
class Said:
    """An answer as every door gives it: text, or calls, or an error's code and status."""

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    code: int | None = None
    status: int = 200


Door: TypeAlias = Callable[[str, dict[str, Any]], Awaitable[Said]]

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (MODEL, GREEDY_CHAT),
    "sampled": (MODEL, {**GREEDY_CHAT, "temperature": 1.5, "seed": 7}),
    "parts": (MODEL, {**GREEDY_CHAT, "messages": PARTS}),
    "nulls": (MODEL, {**GREEDY_CHAT, "top_p": None, "seed": None, "stop": None}),
    "nearly zero": (MODEL, {**GREEDY_CHAT, "temperature": 1e-8}),
    "json": (MODEL, JSON_CHAT),
    "call": (MODEL, CALL),
    "cut json": (MODEL, {**JSON_CHAT, "max_tokens": 2}),
    "no json mode": (MODEL, {**GREEDY_CHAT, **SCHEMA}),
    "unknown model": ("@cf/no/such", GREEDY_CHAT),
    "too warm": (MODEL, {**GREEDY_CHAT, "temperature": 9}),
    "too long": (MODEL, {**GREEDY_CHAT, "max_tokens": 5000}),
    "no messages": (MODEL, {"messages": []}),
    "half a character": (MODEL, {"messages": [{"role": "user", "content": "\ud800"}]}),
    "no such tool": (MODEL, {**CALL, "tool_choice": {"name": "other"}}),
    "cut call": (MODEL, {**CALL, "max_tokens": 3}),
    "hopeless schema": (MODEL, {**CALL, "tools": [{**WEATHER, "parameters": {"not": {}}}]}),
    "apart": (MODEL, {**CALL, "tools": [{**WEATHER, "parameters": {"oneOf": [CITY, {**CITY, "required": ["x"]}]}}]}),
    "both": (MODEL, {**CALL, "tools": [{**WEATHER, "parameters": {"oneOf": [CITY, CITY]}}]}),
    "history": (MODEL, {**GREEDY_CHAT, "messages": HISTORY, "tools": [WEATHER]}),
    "pictures": (MODEL, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}),
    "no object": (MODEL, {**GREEDY_CHAT, "response_format": "json"}),
}


def native(result: dict[str, Any]) -> Said:
    said = result["response"]
    calls = tuple(map(called, result.get("tool_calls", ())))
    return Said(said if isinstance(said, str) else json.dumps(said, ensure_ascii=False), calls)


def streamed(answer: httpx.Response) -> Said:
    """What a stream of either kind says in all, or the error that it breaks off with."""
    if answer.headers["content-type"] != "text/event-stream":
        return refused(answer)
    text, calls = "", list[tuple[str, str]]()
    *frames, end = answer.text.split("\n\n")
    assert end == ""
    for frame in frames:
        if (data := frame.removeprefix("data: ")) == "[DONE]":
            return Said(text, tuple(calls))
        body = json.loads(data)
        if "errors" in body:
            return Said(code=body["internalCode"], status=body["httpCode"])
        told = body["choices"][0]["delta"] if "choices" in body else body
        text += told.get("content", told.get("response")) or ""
        calls += [called(call) for call in told.get("tool_calls", ())]
    raise AssertionError("the stream has no end")


def called(call: dict[str, Any]) -> tuple[str, str]:
    """A call in either spelling."""
    if "function" in call:
        return call["function"]["name"], call["function"]["arguments"]
    return call["name"], json.dumps(call["arguments"])


def refused(answer: httpx.Response) -> Said:
    return Said(code=answer.json()["errors"][0]["code"], status=answer.status_code)


def binding(ai: AI) -> Door:
    async def run(model: str, inputs: dict[str, Any]) -> Said:
        try:
            result = await ai.run(model, inputs)
        except AiError as error:
            return Said(code=error.code, status=error.status)
        assert isinstance(result, dict)
        return native(result)

    return run


@pytest.fixture
async def doors(ai: AI, url: str) -> AsyncIterator[dict[str, Door]]:
    async with httpx.AsyncClient(base_url=url, timeout=60) as client, aclosing(AI(url=url)) as remote:
        api = "/client/v4/accounts/any/ai"

        async def rest(model: str, inputs: dict[str, Any]) -> Said:
            answer = await client.post(f"{api}/run/{model}", content=json.dumps(inputs))
            return native(answer.json()["result"]) if answer.is_success else refused(answer)

        async def wire(model: str, inputs: dict[str, Any]) -> Said:
            body = json.dumps({"inputs": inputs, "options": {}})
            answer = await client.post("/run?version=3", content=body, headers={"cf-consn-model-id": model})
            return native(answer.json()) if answer.is_success else refused(answer)

        async def openai(model: str, inputs: dict[str, Any]) -> Said:
            answer = await client.post(f"{api}/v1/chat/completions", content=json.dumps({"model": model, **inputs}))
            if not answer.is_success:
                return refused(answer)
            message = answer.json()["choices"][0]["message"]
            return Said(message["content"] or "", tuple(map(called, message.get("tool_calls", ()))))

        here, there = binding(ai), binding(remote)
        yield {"in process": here, "from a script": there, "REST": rest, "wire": wire, "OpenAI": openai}


@pytest.fixture
async def ai() -> AsyncIterator[AI]:
    async with aclosing(AI()) as binding:
        yield binding


@pytest.mark.parametrize("case", CASES)
async def test_every_door_says_the_same(doors: dict[str, Door], case: str) -> None:
    model, inputs = CASES[case]
    said = {name: await door(model, inputs) for name, door in doors.items()}
    assert set(said.values()) == {said["in process"]}, said
    (same,) = set(said.values())
    assert same.text or same.calls or same.code


@pytest.mark.parametrize("case", CASES)
async def test_a_stream_says_the_same_through_every_door(doors: dict[str, Door], url: str, case: str) -> None:
    model, inputs = CASES[case]
    whole, asked = await doors["in process"](model, inputs), {**inputs, "stream": True}
    ways = {
        "REST": (f"/client/v4/accounts/any/ai/run/{model}", asked),
        "wire": ("/run?version=3", {"inputs": asked}),
        "OpenAI": ("/client/v4/accounts/any/ai/v1/chat/completions", {"model": model, **asked}),
    }
    async with httpx.AsyncClient(base_url=url, timeout=60, headers={"cf-consn-model-id": model}) as client:
        said = {
            name: streamed(await client.post(path, content=json.dumps(body))) for name, (path, body) in ways.items()
        }
    assert said == dict.fromkeys(ways, whole)
