"""One table of cases through every door: in process, REST, OpenAI and the binding's wire say the same."""

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

WEATHER = {
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
    "hopeless schema": (MODEL, {**CALL, "tools": [{**WEATHER, "parameters": {"not": {}}}]}),
}


def native(result: dict[str, Any]) -> Said:
    said = result["response"]
    calls = tuple((call["name"], json.dumps(call["arguments"])) for call in result.get("tool_calls", ()))
    return Said(said if isinstance(said, str) else json.dumps(said, ensure_ascii=False), calls)


def piece(body: dict[str, Any]) -> str:
    """The text in one frame of either kind of stream."""
    text: str = body["choices"][0]["delta"].get("content", "") if "choices" in body else body["response"]
    return text


def refused(answer: httpx.Response) -> Said:
    return Said(code=answer.json()["errors"][0]["code"], status=answer.status_code)


@pytest.fixture
async def doors(ai: AI, url: str) -> AsyncIterator[dict[str, Door]]:
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        api = "/client/v4/accounts/any/ai"

        async def in_process(model: str, inputs: dict[str, Any]) -> Said:
            try:
                result = await ai.run(model, inputs)
            except AiError as error:
                return Said(code=error.code, status=error.status)
            assert isinstance(result, dict)
            return native(result)

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
            calls = [call["function"] for call in message.get("tool_calls", ())]
            return Said(message["content"] or "", tuple((call["name"], call["arguments"]) for call in calls))

        yield {"in process": in_process, "REST": rest, "wire": wire, "OpenAI": openai}


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


async def test_a_stream_says_the_same_through_every_door(doors: dict[str, Door], ai: AI, url: str) -> None:
    whole = (await doors["in process"](MODEL, GREEDY_CHAT)).text
    asked = {**GREEDY_CHAT, "stream": True}
    api, header = f"{url}/client/v4/accounts/any/ai", {"cf-consn-model-id": MODEL}
    async with httpx.AsyncClient(timeout=60) as client:
        streams = {
            "REST": await client.post(f"{api}/run/{MODEL}", json=asked),
            "wire": await client.post(f"{url}/run?version=3", json={"inputs": asked}, headers=header),
            "OpenAI": await client.post(f"{api}/v1/chat/completions", json={"model": MODEL, **asked}),
        }
    for name, answer in streams.items():
        *frames, done, _ = answer.text.split("\n\n")
        bodies = [json.loads(frame.removeprefix("data: ")) for frame in frames]
        assert ("".join(map(piece, bodies)), done) == (whole, "data: [DONE]"), name
