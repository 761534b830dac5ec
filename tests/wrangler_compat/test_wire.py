"""The wire door speaks what workerd's AI binding speaks: bare results, exact content types, its error's fields."""

import json
from typing import Any

import httpx
import pytest

from tests.worker.asking import GREEDY, MODEL
from worker.requests import MAX_BODY

pytestmark = pytest.mark.weights

REFUSED: list[tuple[str | None, Any, int, int, str]] = [
    ("@cf/a/b", {"prompt": "a"}, 5007, 400, "No such model @cf/a/b or task"),
    (None, {"prompt": "a"}, 5007, 400, "No such model  or task"),
    (
        MODEL,
        {"prompt": "a", "temperature": 9},
        5006,
        400,
        "Error: oneOf at '/' not met, 0 matches: '/temperature' must be <= 5",
    ),
    (MODEL, {"prompt": "a", "lora": "x"}, 3037, 400, "Finetune x not found"),
    (
        MODEL,
        {"prompt": "a", "raw": True, "max_tokens": 4096},
        5021,
        413,
        "The estimated number of input and maximum output tokens (4097)"
        " exceeded this model context window limit (4096).",
    ),
]


def run(http: httpx.Client, inputs: Any, model: str | None = MODEL, **more: Any) -> httpx.Response:
    """What workerd sends for ``env.AI.run(model, inputs)``."""
    headers = {"cf-consn-sdk-version": "2.0.0", "host": "workers-binding.ai"}
    named = {"cf-consn-model-id": model} if model is not None else {}
    return http.post("/run?version=3", json={"inputs": inputs, "options": {}, **more}, headers={**headers, **named})


def test_a_result_comes_bare_as_json_to_the_letter(http: httpx.Client, rest: httpx.Client) -> None:
    run(http, GREEDY)  # from here on its prompt is kept, which usage tells
    answer = run(http, GREEDY)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == rest.post(f"/run/{MODEL}", json=GREEDY).json()["result"]
    assert answer.headers["cf-ai-req-id"]
    assert answer.headers["x-roost-stand-in"] == "SmolLM2-135M-Instruct"


def test_a_stream_is_the_rest_doors(http: httpx.Client, rest: httpx.Client) -> None:
    asked = {**GREEDY, "stream": True}
    run(http, asked)  # from here on its prompt is kept, which usage tells
    answer = run(http, asked)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.content == rest.post(f"/run/{MODEL}", json=asked).content
    assert answer.content.endswith(b"\n\ndata: [DONE]\n\n")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("model", "inputs", "code", "status", "described"), REFUSED)
def test_a_refusal_has_the_fields_that_the_binding_reads(
    http: httpx.Client,
    model: str | None,
    inputs: dict[str, Any],
    code: int,
    status: int,
    described: str,
    streamed: bool,
) -> None:
    answer = run(http, {**inputs, "stream": streamed}, model)
    body = answer.json()
    assert (answer.status_code, body["httpCode"], body["internalCode"]) == (status, status, code)
    assert (body["name"], body["description"]) == ("AiError", described)
    assert body["message"].startswith("AiError: ")
    assert body["requestId"] == answer.headers["cf-ai-req-id"]
    assert body["errors"] == [{"code": code, "message": body["message"]}]


@pytest.mark.parametrize("options", [None, {}, {"gateway": {"id": "mine"}, "tags": ["a"], "returnRawResponse": True}])
def test_options_that_mean_nothing_here_change_nothing(http: httpx.Client, options: dict[str, Any] | None) -> None:
    assert run(http, GREEDY, options=options).json() == run(http, GREEDY).json()


@pytest.mark.parametrize("body", [{}, {"inputs": []}, {"inputs": "a"}, {"inputs": {}, "options": []}, GREEDY, [], "a"])
def test_a_body_of_another_shape_is_refused(http: httpx.Client, body: Any) -> None:
    answer = http.post("/run?version=3", json=body, headers={"cf-consn-model-id": MODEL})
    assert (answer.status_code, answer.json()["internalCode"]) == (400, 5006)


def test_too_large_a_body_is_refused(http: httpx.Client) -> None:
    answer = http.post("/run?version=3", content=b" " * (MAX_BODY + 1), headers={"cf-consn-model-id": MODEL})
    assert (answer.status_code, answer.json()["internalCode"]) == (413, 3006)


def test_models_are_the_rest_doors(http: httpx.Client, rest: httpx.Client) -> None:
    for params in ({}, {"search": "star", "source": "2.0"}, {"page": "2"}):
        body = http.get("/ai-api/models/search", params=params).raise_for_status().json()
        assert body["success"] is True
        assert body["result"] == rest.get("/models/search", params=params).json()["result"]


def test_a_bad_filter_has_the_field_that_the_binding_reads(http: httpx.Client) -> None:
    answer = http.get("/ai-api/models/search", params={"page": "0"})
    assert answer.status_code == 400
    assert "'/page'" in answer.json()["errors"][0]["message"]


def test_text_outside_latin_comes_as_itself(http: httpx.Client) -> None:
    answer = run(
        http, {"messages": [{"role": "user", "content": "Répète: 😀 日本語"}], "max_tokens": 8, "temperature": 0}
    )
    assert json.loads(answer.content.decode("utf-8"))["response"] == answer.json()["response"]
