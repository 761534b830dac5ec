"""One table of cases through every way in which a JavaScript Worker reaches roost, with the real packages from npm."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.worker.asking import ENDLESS, GREEDY, MODEL
from tests.worker.live import computing_at, idle_at, ps
from tests.wrangler_compat.node_tools import (
    NEW_NODE,
    NODE_TESTS,
    Worker,
    copied,
    may_bind_443,
    miniflare_api,
    needs_new_node,
    needs_node,
    platform_proxy,
    roost_dev,
    wrangler_dev,
    wrangler_over_tls,
)

pytestmark = [pytest.mark.weights, needs_node]

CASES: list[dict[str, Any]] = json.loads((NODE_TESTS / "cases.json").read_text(encoding="utf-8"))
ANSWERED = [case for case in CASES if "error" not in case]
REFUSED = [case for case in CASES if "error" in case]
A_SECOND = 300
"""Tokens after a cancellation: more than the stand-in makes in a second, which is the promise, and nothing of 3000."""


@contextmanager
def dev(projects: Path, *arguments: str) -> Iterator[Worker]:
    with roost_dev(projects / "worker", *arguments) as (_, worker):
        yield worker


WAYS: dict[str, Callable[[Path, str], AbstractContextManager[Worker]]] = {
    "roost dev": lambda projects, _: dev(projects),
    "roost dev --engine workerd": lambda projects, _: dev(projects, "--engine", "workerd"),
    "wrangler 4.164": lambda projects, roost: wrangler_dev(projects, roost, "wrangler-newest", NEW_NODE),
    "wrangler 3.114": lambda projects, roost: wrangler_dev(projects, roost, "wrangler-3"),
    "wrangler 3.114 without preload": lambda projects, roost: wrangler_dev(
        projects, roost, "wrangler-3", preload=False
    ),
    "wrangler 4.86 without preload": lambda projects, _: wrangler_over_tls(projects, "wrangler"),
    "wrangler 4.164 without preload": lambda projects, _: wrangler_over_tls(projects, "wrangler-newest", NEW_NODE),
    "getPlatformProxy": platform_proxy,
    "miniflare": miniflare_api,
}
OVER_TLS = {"wrangler 4.86 without preload", "wrangler 4.164 without preload"}
READS_ON = {"wrangler 3.114 without preload"}
NO_SIGNAL = {
    "getPlatformProxy": "an AbortSignal can't pass from Node to its bindings",
    "wrangler 3.114": "its workerd knows no signal of AI.run",
    "wrangler 3.114 without preload": "its workerd knows no signal of AI.run",
}
HANGS_UP_UNHEARD = dict.fromkeys(
    OVER_TLS, "wrangler's proxy notices that the Worker has left when it next writes to it"
)
WORKERD_OF_2025 = {"wrangler 3.114", "wrangler 3.114 without preload"}
NAMELESS = {"getPlatformProxy"}  # wrangler 4.86 loses the names of errors on their way to Node


@pytest.fixture(
    scope="module",
    params=[pytest.param(way, marks=needs_new_node if "4.164" in way else ()) for way in WAYS],
)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def worker(way: str, url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """The test Worker, reached that way."""
    if way in OVER_TLS and not may_bind_443():
        pytest.skip("needs port 443 of the loopback address, which is free to root alone")
    with WAYS[way](copied(tmp_path_factory.mktemp("node")), url) as started:
        yield started


def asked(worker: Worker, path: str, body: Any) -> httpx.Response:
    return httpx.post(f"{worker.url}{path}", json=body, timeout=60).raise_for_status()


def text_of(frames: bytes) -> str:
    *pieces, done, _ = frames.decode().split("\n\n")
    assert done == "data: [DONE]"
    return "".join(json.loads(piece.removeprefix("data: "))["response"] for piece in pieces)


@pytest.mark.parametrize("case", ANSWERED, ids=lambda case: case["case"])
def test_an_answer_and_its_stream_are_the_same_words(worker: Worker, rest: httpx.Client, case: dict[str, Any]) -> None:
    answer = asked(worker, "/run", {"inputs": case["inputs"]}).json()
    assert answer["ok"]["response"] == rest.post(f"/run/{MODEL}", json=case["inputs"]).json()["result"]["response"]
    assert answer["ok"]["usage"]["completion_tokens"] > 0
    streamed = asked(worker, "/run", {"inputs": {**case["inputs"], "stream": True}})
    assert streamed.headers["content-type"] == "text/event-stream"
    assert text_of(streamed.content) == answer["ok"]["response"]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["case"])
def test_a_refusal_is_an_exception_with_code_and_name(
    worker: Worker, way: str, case: dict[str, Any], streamed: bool
) -> None:
    body = {"model": case.get("model"), "inputs": {**case["inputs"], "stream": streamed}}
    refusal = asked(worker, "/run", body).json()
    assert refusal["message"] == case["error"]
    if way not in NAMELESS:
        assert (refusal["name"], refusal["internal"]) == ("AiError", case["internal"])
        assert refusal["id"]


def test_models_are_listed(worker: Worker) -> None:
    assert [model["name"] for model in asked(worker, "/models", {"search": "starling"}).json()["ok"]] == [MODEL]
    assert asked(worker, "/models", {"author": "nobody"}).json() == {"ok": []}
    assert "'/page'" in asked(worker, "/models", {"page": 0}).json()["message"]


def test_the_first_chunk_is_there_while_the_engine_still_generates(worker: Worker, way: str) -> None:
    warmed(worker)
    inputs = {**ENDLESS, "stream": True, "max_tokens": 200 if way in READS_ON else 3000}
    with httpx.stream("POST", f"{worker.url}/run", json={"inputs": inputs}, timeout=60) as response:
        pieces = response.iter_bytes()  # httpx hangs up when this is dropped
        assert next(pieces).startswith(b"data: ")
        computing_at(worker.roost)
    if way not in READS_ON:
        stopped_soon(worker)  # the browser has left


@pytest.mark.parametrize("path", ["/first", "/abort-stream"], ids=["reader.cancel", "AbortSignal of a stream"])
def test_a_worker_that_cancels_its_stream_stops_it(worker: Worker, way: str, path: str) -> None:
    if way in READS_ON:
        pytest.skip("its Node proxy never notices that the Worker has left")
    if "abort" in path and way in NO_SIGNAL:
        pytest.skip(NO_SIGNAL[way])
    warmed(worker)
    asked(worker, path, {**ENDLESS, "stream": True})
    stopped_soon(worker)


def test_a_worker_that_aborts_its_call_stops_it(worker: Worker, way: str) -> None:
    if reason := (NO_SIGNAL | HANGS_UP_UNHEARD).get(way):
        pytest.skip(reason)
    warmed(worker)
    assert "message" in asked(worker, "/abort-answer", ENDLESS).json()
    stopped_soon(worker)


def test_everything_else_of_the_binding_works(worker: Worker, way: str) -> None:
    extras = httpx.get(f"{worker.url}/extras", timeout=60).raise_for_status().json()
    log, raw, universal = extras["log"], extras["raw"], extras["universal"]
    assert (log["model"], log["feedback"], log["score"]) == (MODEL, 1, 5)
    assert (log["tokens_out"], log["metadata"]) == (2, {"a": 1})
    assert "no log nothing in gateway mine" in extras["noLog"]["message"]
    if way not in NAMELESS:
        assert extras["noLog"]["name"] == "AiGatewayLogNotFound"
    assert universal["step"] == "1"
    answers = extras["answer"], raw["body"], universal["body"]["result"], extras["led"]["result"]
    assert len({answer["response"] for answer in answers}) == 1
    assert raw["type"] == "application/json"
    assert raw["id"]
    assert extras["fetched"]["status"] == 200
    assert extras["fetched"]["id"]
    assert [entry["format"] for entry in extras["markdown"]] == ["markdown", "markdown", "markdown", "error"]
    assert "takes no stream as input" in extras["stream"]["message"]
    assert "roost has no AutoRAG" in extras["rag"]["message"]
    if way not in WORKERD_OF_2025:
        assert (extras["webSocket"]["ok"]["status"], extras["webSocket"]["ok"]["upgraded"]) == (400, False)
        assert "does not support WebSocket" in extras["webSocket"]["ok"]["body"]["description"]


def test_calls_over_javascript_rpc_are_refused_with_a_sentence(worker: Worker, way: str) -> None:
    said = httpx.get(f"{worker.url}/rpc", timeout=20).raise_for_status().json()
    if way in WORKERD_OF_2025:
        assert said["aiSearch"]["message"] == "AI.aiSearch is not a function"
        assert said["beta"]["ok"].startswith(worker.roost)  # this workerd knows no beta, and asks over HTTP
        return
    sentence = "5902: this call goes over JavaScript RPC, which roost doesn't speak"
    assert said["aiSearch"]["message"].startswith(sentence)
    assert said["beta"]["message"].startswith(sentence)
    known = sentence if "4.164" in way else "AI.websearch is not a function"
    assert said["websearch"]["message"].startswith(known)


def warmed(worker: Worker) -> None:
    """The model is loaded, and computes nothing."""
    asked(worker, "/run", {"inputs": GREEDY})
    idle_at(worker.roost)


def stopped_soon(worker: Worker) -> None:
    left = ps(worker.roost)["generated_tokens"]
    assert idle_at(worker.roost)["generated_tokens"] - left < A_SECOND
