"""What stands between the doors and the engine, seen through each door: recordings, faults on purpose, costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from catalog import Catalog
from runtime.artifacts import ArtifactStore
from runtime.pool import Pool
from tests.worker.asking import GREEDY, MODEL
from tests.worker.live import live
from tests.worker.test_ledger import priced
from worker import AI
from worker.call import Interposer
from worker.faults import Faults, parse_fault
from worker.recording import Recorder, Replayer
from wrangler_compat.app import create_app

pytestmark = pytest.mark.weights

CHAT = {"messages": [{"role": "user", "content": GREEDY["prompt"]}], "max_tokens": 8, "temperature": 0}
API = "/client/v4/accounts/any/ai"
RESPONSE = {"model": MODEL, "input": CHAT["messages"], "max_output_tokens": 8, "temperature": 0}
DOORS: dict[str, tuple[str, dict[str, Any]]] = {
    "REST": (f"{API}/run/{MODEL}", CHAT),
    "wire": ("/run?version=3", {"inputs": CHAT}),
    "chat": (f"{API}/v1/chat/completions", {"model": MODEL, "user": "me", "n": 1, **CHAT}),
    "completions": (f"{API}/v1/completions", {"model": MODEL, **GREEDY}),
    "responses": (f"{API}/v1/responses", RESPONSE),
}


@contextmanager
def roost(*between: Interposer, **parts: Any) -> Iterator[httpx.Client]:
    """A client of a running roost with ``between`` in its way."""
    header = {"cf-consn-model-id": MODEL}
    with (
        live(create_app(AI(interposers=between, **parts))) as url,
        httpx.Client(base_url=url, timeout=60, headers=header) as client,
    ):
        yield client


def ask(client: httpx.Client, door: str, *, stream: bool = False) -> httpx.Response:
    path, body = DOORS[door]
    inner = body["inputs"] if door == "wire" else body
    asked = {**inner, "stream": stream}
    return client.post(path, json={"inputs": asked} if door == "wire" else asked)


def frames(answer: httpx.Response) -> list[dict[str, Any]]:
    data = [frame.removeprefix("data: ") for frame in answer.text.split("\n\n") if frame]
    return [json.loads(frame) for frame in data if frame != "[DONE]"]


def pieces(door: str, answer: httpx.Response) -> list[str]:
    """The pieces of text in a stream of any kind."""
    told: list[str] = []
    for frame in frames(answer):
        match door:
            case "chat":
                told.append(frame["choices"][0]["delta"].get("content", ""))
            case "completions":
                told.append(frame["choices"][0]["text"])
            case "responses":
                told.append(frame["delta"] if frame["type"] == "response.output_text.delta" else "")
            case _:
                told.append(frame["response"])
    return [piece for piece in told if piece]


def test_what_one_door_recorded_the_others_replay_in_the_same_pieces(tmp_path: Path) -> None:
    with roost(Recorder(tmp_path)) as client:
        recorded = pieces("REST", ask(client, "REST", stream=True))
    with roost(Replayer(tmp_path), pool=Pool(ArtifactStore(tmp_path / "empty"))) as client:
        for door in ("REST", "wire", "chat", "responses"):
            assert pieces(door, ask(client, door, stream=True)) == recorded
            assert ask(client, door).is_success
        missed = ask(client, "completions")
    assert (missed.status_code, missed.json()["errors"][0]["code"]) == (404, 5911)
    assert "the nearest, starling-lm-7b-beta-" in missed.json()["errors"][0]["message"]


@pytest.mark.parametrize("door", DOORS)
def test_every_door_records_and_replays(door: str, tmp_path: Path) -> None:
    with roost(Recorder(tmp_path)) as client:
        recorded = pieces(door, ask(client, door, stream=True))
    with roost(Replayer(tmp_path), pool=Pool(ArtifactStore(tmp_path / "empty"))) as client:
        assert pieces(door, ask(client, door, stream=True)) == recorded


def test_a_nameless_model_s_recording_has_a_file_s_name(tmp_path: Path) -> None:
    with roost(Recorder(tmp_path)) as client:
        assert client.post(f"{API}/run/", json=CHAT).status_code == 400
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("model-")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("code", "status"), [(3040, 429), (3036, 429), (3007, 408)])
def test_a_fault_on_purpose_is_plain_json_at_every_door(door: str, stream: bool, code: int, status: int) -> None:
    with roost(Faults([parse_fault(f"{code}:1")], 0)) as client:
        answer = ask(client, door, stream=stream)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert answer.json()["errors"][0]["code"] == code


@pytest.mark.parametrize("door", DOORS)
def test_a_cut_on_purpose_is_an_error_or_a_stream_without_its_end(door: str) -> None:
    with roost(Faults([parse_fault("cut:1")], 0)) as client:
        whole, streamed = ask(client, door), ask(client, door, stream=True)
    assert (whole.status_code, whole.json()["errors"][0]["code"]) == (502, 5907)
    assert "[DONE]" not in streamed.text
    last = frames(streamed)[-1]
    assert last["errors"][0]["code"] == 5907
    assert door in ("REST", "wire") or last["error"]["code"] == "5907"


def test_a_seed_draws_the_same_faults_whatever_the_doors() -> None:
    def met(seed: int, doors: list[str]) -> list[int]:
        with roost(Faults([parse_fault("3040:0.5")], seed)) as client:
            return [ask(client, door).status_code for door in doors]

    names = [*DOORS] * 2
    assert met(3, names) == met(3, names[::-1])
    assert len({tuple(met(seed, names)) for seed in range(3)}) > 1


def test_costs_are_told_at_every_door_and_summed_up() -> None:
    with roost(catalog=Catalog({MODEL: priced(input=0.11, output=0.22)})) as client:
        told = []
        for door in DOORS:
            whole, streamed = ask(client, door), ask(client, door, stream=True)
            assert "cf-ai-neurons" not in streamed.headers
            last = frames(streamed)[-1]
            usage = last["response"]["usage"] if door == "responses" else last["usage"]
            assert usage["neurons"] == float(whole.headers["cf-ai-neurons"]) > 0
            told += [usage["neurons"]] * 2
        (row,) = client.get("/cdn-cgi/local/usage").json()["models"]
    assert (row["model"], row["requests"]) == (MODEL, len(told))
    assert row["neurons"] == pytest.approx(sum(told), rel=1e-3)
