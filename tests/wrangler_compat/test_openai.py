"""The OpenAI door, through OpenAI's own SDK and as raw HTTP where the bytes matter."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionChunk

from tests.worker.asking import GREEDY, MODEL
from tests.wrangler_compat.conftest import ACCOUNT

pytestmark = pytest.mark.weights

CHAT: Any = [{"role": "user", "content": GREEDY["prompt"]}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
NAMED: Any = {"type": "function", "function": {"name": "weather"}}
FLAT: Any = {"type": "function", **WEATHER["function"], "strict": True}
SETTINGS: dict[str, Any] = {"model": MODEL, "temperature": 0}


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    base = f"{url}/client/v4/accounts/{ACCOUNT}/ai/v1"
    with OpenAI(base_url=base, api_key="any", max_retries=0) as sdk:
        yield sdk


@pytest.fixture(scope="session")
def native(rest: httpx.Client) -> str:
    """What the platform's own route says to the same."""
    text: str = rest.post(f"/run/{MODEL}", json=GREEDY).json()["result"]["response"]
    return text


def test_a_chat_is_the_native_answer(client: OpenAI, native: str) -> None:
    said = client.chat.completions.create(messages=CHAT, max_tokens=8, **SETTINGS)
    (choice,) = said.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", native, "length")
    assert (said.object, said.model) == ("chat.completion", MODEL)
    assert said.id.startswith("chatcmpl-")
    assert said.usage is not None
    assert said.usage.total_tokens == said.usage.prompt_tokens + 8


def test_a_streamed_chat_is_the_same_in_chunks(client: OpenAI, native: str) -> None:
    chunks = list(client.chat.completions.create(messages=CHAT, max_completion_tokens=8, stream=True, **SETTINGS))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == native
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert len({(chunk.id, chunk.created, chunk.object) for chunk in chunks}) == 1


def test_every_chunk_is_what_a_strict_parser_takes(rest: httpx.Client) -> None:
    answer = rest.post("/v1/chat/completions", json={**SETTINGS, "messages": CHAT, "max_tokens": 8, "stream": True})
    assert answer.headers["content-type"] == "text/event-stream"
    *frames, done, end = answer.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    for frame in frames:
        ChatCompletionChunk.model_validate(json.loads(frame.removeprefix("data: ")), strict=True)


def test_a_stream_may_leave_the_usage_out(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        messages=CHAT, max_tokens=2, stream=True, stream_options={"include_usage": False}, **SETTINGS
    )
    assert [chunk.usage for chunk in stream if chunk.usage] == []


def test_log_probabilities_are_told_of_every_token(client: OpenAI, native: str) -> None:
    asked: dict[str, Any] = {"messages": CHAT, "max_tokens": 8, "logprobs": True, "top_logprobs": 3, **SETTINGS}
    told = client.chat.completions.create(**asked).choices[0].logprobs
    assert told is not None
    assert told.content is not None
    assert "".join(token.token for token in told.content) == native
    for token in told.content:
        assert token.bytes == list(token.token.encode())
        assert token.logprob <= 0
        assert [other.logprob for other in token.top_logprobs] == sorted(
            (other.logprob for other in token.top_logprobs), reverse=True
        )
        assert token.top_logprobs[0].token == token.token  # it was greedy
    streamed = client.chat.completions.create(stream=True, **asked)
    tokens = [
        token
        for chunk in streamed
        if chunk.choices[0].logprobs and chunk.choices[0].logprobs.content
        for token in chunk.choices[0].logprobs.content
    ]
    assert tokens == told.content


def test_a_bias_reaches_the_engine(client: OpenAI) -> None:
    asked: dict[str, Any] = {"messages": CHAT, "max_tokens": 3, "logprobs": True, **SETTINGS}
    said = client.chat.completions.create(logit_bias={"504": 100}, **asked).choices[0]
    assert said.logprobs is not None
    assert len({token.token for token in said.logprobs.content or ()}) == 1


def test_stop_strings_end_an_answer(client: OpenAI, native: str) -> None:
    word = native.split()[1]
    said = client.chat.completions.create(messages=CHAT, max_tokens=8, stop=[word], **SETTINGS).choices[0]
    assert (said.message.content, said.finish_reason) == (native[: native.index(word)], "stop")


def test_a_forced_call_comes_as_one(client: OpenAI) -> None:
    asked: dict[str, Any] = {"messages": CHAT, "tools": [WEATHER], "tool_choice": NAMED, **SETTINGS}
    (choice,) = client.chat.completions.create(**asked).choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments).keys() == {"city"}
    deltas = [chunk.choices[0] for chunk in client.chat.completions.create(stream=True, **asked)]
    (told,) = [call for delta in deltas for call in delta.delta.tool_calls or ()]
    assert told.function is not None
    assert (told.index, told.function.arguments) == (0, call.function.arguments)
    assert deltas[-1].finish_reason == "tool_calls"
    answered: Any = [*CHAT, choice.message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "sun"}]
    assert client.chat.completions.create(messages=answered, tools=[WEATHER], max_tokens=3, **SETTINGS).choices


def test_a_completion_is_the_native_answer(client: OpenAI, native: str) -> None:
    said = client.completions.create(prompt=GREEDY["prompt"], max_tokens=8, logprobs=2, **SETTINGS)
    (choice,) = said.choices
    assert (said.object, choice.text, choice.finish_reason) == ("text_completion", native, "length")
    assert choice.logprobs is not None
    assert "".join(choice.logprobs.tokens or ()) == native
    assert [native[offset:][:1] for offset in choice.logprobs.text_offset or ()] == [
        token[:1] for token in choice.logprobs.tokens or ()
    ]
    chunks = list(client.completions.create(prompt=[GREEDY["prompt"]], max_tokens=8, stream=True, **SETTINGS))
    assert "".join(chunk.choices[0].text for chunk in chunks) == native
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


def test_a_response_is_the_native_answer(client: OpenAI, native: str) -> None:
    said = client.responses.create(input=GREEDY["prompt"], max_output_tokens=16, **SETTINGS)
    assert said.output_text.startswith(native)
    assert (said.status, said.usage and said.usage.output_tokens) in [("incomplete", 16), ("completed", 16)]
    parts: Any = [{"role": "user", "content": [{"type": "input_text", "text": GREEDY["prompt"]}]}]
    assert client.responses.create(input=parts, max_output_tokens=16, **SETTINGS).output_text == said.output_text


def test_a_streamed_response_accumulates_to_the_same(client: OpenAI) -> None:
    whole = client.responses.create(input=GREEDY["prompt"], max_output_tokens=16, **SETTINGS)
    with client.responses.stream(input=GREEDY["prompt"], max_output_tokens=16, **SETTINGS) as stream:
        events = list(stream)
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
    assert [event.sequence_number for event in events] == sorted(event.sequence_number for event in events)
    assert events[0].type == "response.created"
    assert events[-1].type == f"response.{whole.status}"


def test_a_response_calls_functions_and_takes_their_output(client: OpenAI) -> None:
    choice: Any = {"type": "function", "name": "weather"}
    asked: dict[str, Any] = {"input": CHAT, "tools": [FLAT], "tool_choice": choice, **SETTINGS}
    (call,) = client.responses.create(**asked).output
    assert call.type == "function_call"
    kinds = [event.type for event in client.responses.create(stream=True, **asked)]
    assert kinds[-5:] == [
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    history: Any = [*CHAT, call.to_dict(), {"type": "function_call_output", "call_id": call.call_id, "output": "sun"}]
    assert client.responses.create(input=history, instructions="Be brief.", max_output_tokens=16, **SETTINGS).output


def test_models_are_listed_and_found(client: OpenAI) -> None:
    listed = {model.id for model in client.models.list()}
    assert MODEL in listed
    assert "@cf/baai/bge-m3" in listed
    assert "@cf/openai/whisper" not in listed  # roost can't run it
    assert client.models.retrieve(MODEL).owned_by == "nexusflow"
    with pytest.raises(openai.BadRequestError, match="5007"):
        client.models.retrieve("@cf/no/such")


REFUSED: list[tuple[str, dict[str, Any], type[openai.APIStatusError], int]] = [
    ("chat", {"model": "gpt-4o"}, openai.BadRequestError, 5007),
    ("chat", {"model": None}, openai.BadRequestError, 5007),
    ("chat", {"temperature": 9}, openai.BadRequestError, 5006),
    ("chat", {"messages": []}, openai.BadRequestError, 5006),
    ("chat", {"messages": None}, openai.BadRequestError, 5006),
    ("chat", {"n": 2}, openai.BadRequestError, 5006),
    ("chat", {"logit_bias": {"999999": 1}}, openai.BadRequestError, 5006),
    ("chat", {"logit_bias": {"a": "b"}}, openai.BadRequestError, 5006),
    ("chat", {"logit_bias": {"1": 1e9}}, openai.BadRequestError, 5006),
    ("chat", {"logprobs": True, "top_logprobs": 99}, openai.BadRequestError, 5006),
    ("chat", {"stop": [1]}, openai.BadRequestError, 5006),
    ("chat", {"max_tokens": 5000}, openai.APIStatusError, 5021),
    ("chat", {"max_completion_tokens": "many"}, openai.BadRequestError, 5006),
    ("chat", {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, openai.BadRequestError, 5025),
    ("completion", {"prompt": ["a", "b"]}, openai.BadRequestError, 5006),
    ("completion", {"prompt": [1, 2]}, openai.BadRequestError, 5006),
    ("completion", {"echo": True}, openai.BadRequestError, 5006),
    ("response", {"previous_response_id": "resp_1"}, openai.InternalServerError, 5902),
    ("response", {"tools": [{"type": "web_search"}]}, openai.BadRequestError, 5006),
    ("response", {"input": 7}, openai.BadRequestError, 5006),
    ("embedding", {}, openai.BadRequestError, 5006),
]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("kind", "change", "raised", "code"), REFUSED)
def test_a_refusal_is_the_sdk_s_own_exception_with_the_platform_s_code(
    client: OpenAI, kind: str, change: dict[str, Any], raised: type[openai.APIStatusError], code: int, streamed: bool
) -> None:
    ways: dict[str, tuple[str, dict[str, Any]]] = {
        "chat": ("/chat/completions", {"messages": CHAT}),
        "completion": ("/completions", {"prompt": "a"}),
        "response": ("/responses", {"input": "a"}),
        "embedding": ("/embeddings", {"input": "a"}),
    }
    path, body = ways[kind]
    with pytest.raises(raised) as caught:
        client.post(path, body={"model": MODEL, **body, "stream": streamed, **change}, cast_to=httpx.Response)
    answer = caught.value.response
    assert answer.headers["content-type"] == "application/json"
    assert [error["code"] for error in answer.json()["errors"]] == [code]
    assert caught.value.code == str(code)
    assert f"{code}: AiError: " in str(caught.value)


def test_a_cut_in_mid_stream_is_the_sdk_s_own_exception(client: OpenAI) -> None:
    asked: Any = {"response_format": {"type": "json_object"}, "max_tokens": 2, **SETTINGS}
    with pytest.raises(openai.APIError, match="JSON Mode couldn't be met"):
        list(client.chat.completions.create(messages=CHAT, stream=True, **asked))
