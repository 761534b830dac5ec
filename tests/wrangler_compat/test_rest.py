"""The REST door: Cloudflare's routes and envelope over the one function."""

import json
import re
from typing import Any

import httpx
import pytest

from tests.worker.asking import GREEDY, MODEL
from worker.requests import MAX_BODY

pytestmark = pytest.mark.weights

UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
FORM = {"content-type": "application/x-www-form-urlencoded"}

REFUSED: list[tuple[str, Any, int, int, str]] = [
    ("@cf/a/b", {"prompt": "a"}, 5007, 400, "No such model: No such model @cf/a/b or task"),
    (
        MODEL,
        {},
        5006,
        400,
        "Bad input: Error: oneOf at '/' not met, 0 matches: required properties at '/' are 'prompt'",
    ),
    (
        MODEL,
        {"prompt": "a", "temperature": 9},
        5006,
        400,
        "Bad input: Error: oneOf at '/' not met, 0 matches: '/temperature' must be <= 5",
    ),
    (MODEL, {"prompt": "a", "max_tokens": -1}, 5006, 400, "Bad input: Error: '/max_tokens' must be >= 1"),
    (MODEL, {"prompt": "a", "lora": "x"}, 3037, 400, "AiError: Finetune x not found"),
    (
        MODEL,
        {"prompt": "a", "raw": True, "max_tokens": 4096},
        5021,
        413,
        "Ai: The estimated number of input and maximum output tokens (4097)"
        " exceeded this model context window limit (4096).",
    ),
    (MODEL, {"prompt": "a " * 3070}, 5021, 413, "exceeded this model context window limit (3072)."),
]
MALFORMED = ["", "{", "[]", '"text"', "null", "prompt=hello", '{"a":' * 2000, "[" * 100_000, '{"prompt": "a"} x']


def run(rest: httpx.Client, body: Any, model: str = MODEL, **options: Any) -> httpx.Response:
    return rest.post(f"/run/{model}", json=body, **options)


def test_a_run_is_its_result_in_the_envelope(rest: httpx.Client) -> None:
    answer = run(rest, GREEDY)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert {name: body[name] for name in ("success", "errors", "messages")} == {
        "success": True,
        "errors": [],
        "messages": [],
    }
    assert body["result"].keys() == {"response", "usage"}
    assert body["result"]["usage"]["completion_tokens"] == 8


def test_every_answer_bears_its_request_id_and_says_who_stands_in(rest: httpx.Client) -> None:
    for inputs in (GREEDY, {**GREEDY, "stream": True}):
        headers = run(rest, inputs).headers
        assert re.fullmatch(UUID, headers["cf-ai-req-id"])
        assert headers["x-roost-stand-in"] == "SmolLM2-135M-Instruct"
        assert headers["x-roost-device"]
        assert "server" not in headers


@pytest.mark.parametrize("name", [MODEL, MODEL.replace("/", "%2F"), MODEL.replace("/", "%2f").replace("@", "%40")])
def test_a_models_name_may_be_escaped(rest: httpx.Client, name: str) -> None:
    assert run(rest, GREEDY, name).json() == run(rest, GREEDY).json()


@pytest.mark.parametrize(
    "kind", ["application/json", FORM["content-type"], "text/plain", "application/octet-stream", ""]
)
def test_the_body_is_json_whatever_its_content_type_says(rest: httpx.Client, kind: str) -> None:
    answer = rest.post(f"/run/{MODEL}", content=json.dumps(GREEDY), headers={"content-type": kind})
    assert answer.json() == run(rest, GREEDY).json()


def test_a_stream_is_the_same_answer_in_frames(rest: httpx.Client) -> None:
    answer = run(rest, {**GREEDY, "stream": True})
    assert answer.headers["content-type"] == "text/event-stream"
    *frames, last, done, end = answer.text.split("\n\n")
    texts = [json.loads(frame.removeprefix("data: "))["response"] for frame in frames]
    whole = run(rest, GREEDY).json()["result"]
    assert "".join(texts) == whole["response"]
    assert json.loads(last.removeprefix("data: ")) == {"response": "", "usage": whole["usage"]}
    assert (done, end) == ("data: [DONE]", "")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("model", "inputs", "code", "status", "said"), REFUSED)
def test_a_refusal_is_plain_json_whether_or_not_a_stream_was_asked_for(
    rest: httpx.Client, model: str, inputs: dict[str, Any], code: int, status: int, said: str, streamed: bool
) -> None:
    answer = run(rest, {**inputs, "stream": streamed}, model)
    check_refusal(answer, code, status, said)


@pytest.mark.parametrize("content", MALFORMED, ids=lambda content: content[:12] or "nothing")
def test_malformed_json_is_a_bad_input(rest: httpx.Client, content: str) -> None:
    check_refusal(rest.post(f"/run/{MODEL}", content=content, headers=FORM), 5006, 400, "failed to decode JSON: ")


@pytest.mark.parametrize("text", [r'"\ud800"', "NaN", "1e999", "1" * 5000, '{"a":' * 500 + "1" + "}" * 500])
@pytest.mark.parametrize("name", ["prompt", "temperature"])
def test_json_that_means_nothing_is_a_bad_input(rest: httpx.Client, name: str, text: str) -> None:
    content = f'{{"{name}": {text}, "max_tokens": 1}}'
    check_refusal(rest.post(f"/run/{MODEL}", content=content), 5006, 400, "Bad input")


def test_too_large_a_body_is_refused(rest: httpx.Client) -> None:
    answer = rest.post(f"/run/{MODEL}", content=b" " * (MAX_BODY + 1))
    check_refusal(answer, 3006, 413, "Request is too large")


def check_refusal(answer: httpx.Response, code: int, status: int, said: str) -> None:
    """The AI service's envelope, whose message opens with its own words and ends with the request's id."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    (error,) = body.pop("errors")
    assert body == {"success": False, "result": {}, "messages": []}
    assert error["code"] == code
    assert error["message"].startswith("AiError: ")
    assert said in error["message"]
    assert error["message"].endswith(f" ({answer.headers['cf-ai-req-id']})")


@pytest.mark.parametrize(
    ("method", "path", "code", "status"),
    [
        ("GET", f"/run/{MODEL}", 7001, 405),
        ("PUT", f"/run/{MODEL}", 7001, 405),
        ("DELETE", "/models/search", 7001, 405),
        ("OPTIONS", "/models/search", 7001, 405),
        ("POST", "/models/schema", 7001, 405),
        ("GET", "/nothing/here", 7003, 404),
        ("POST", "/run", 7003, 404),
        ("GET", "/models/search/", 7003, 404),
        ("GET", "/run/", 7001, 405),
    ],
)
def test_a_wrong_route_is_refused_by_the_edge(
    rest: httpx.Client, method: str, path: str, code: int, status: int
) -> None:
    answer = rest.request(method, path)
    check_edge_refusal(answer, code, status)
    whole = f"{rest.base_url.path.rstrip('/')}{path}"
    sentences = {
        7001: f"{method} not supported for requested URI.",
        7003: f"Could not route to {whole}, perhaps your object identifier is invalid?",
    }
    assert answer.json()["errors"][0]["message"] == sentences[code]


@pytest.mark.parametrize("path", ["/client/v4/user/nothing", "/client/v4/zones", "/client/v4/"])
def test_an_unknown_route_of_the_api_names_itself(http: httpx.Client, path: str) -> None:
    check_edge_refusal(http.get(path), 7003, 404)


@pytest.mark.parametrize("path", ["/favicon.ico", "/v1/chat/completions"])
def test_an_unknown_route_elsewhere_is_no_route(http: httpx.Client, path: str) -> None:
    check_edge_refusal(http.get(path), 7000, 404)


def check_edge_refusal(answer: httpx.Response, code: int, status: int) -> None:
    assert answer.status_code == status
    body = answer.json()
    (error,) = body.pop("errors")
    assert error["code"] == code
    assert body == {"success": False, "result": None, "messages": []}
    assert "cf-ai-req-id" not in answer.headers
