"""Embeddings through every door, with the SDKs that people have, and from isolates of both languages."""

from __future__ import annotations

import base64
import json
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, aclosing
from pathlib import Path
from typing import Any

import cloudflare
import httpx
import numpy as np
import openai
import pytest

from tests.models.embedding import PAIRS, SMALL, WIDE, embedders
from tests.worker.asking import MODEL
from tests.worker.live import live
from tests.worker.python_workers import serving
from tests.wrangler_compat.conftest import ACCOUNT
from tests.wrangler_compat.node_tools import Worker, copied, miniflare_api, needs_node, wrangler_dev
from tests.wrangler_compat.test_clients import PYTHON, needs_pypi
from worker import AI
from worker.bindings.internet import AiWire
from wrangler_compat.app import create_app
from wrangler_compat.testing import RoostAI

pytestmark = pytest.mark.weights

TEXTS = ["The first text.", "Another, longer text about nothing in particular."]
LONG = "every word counts " * 400


@pytest.fixture(scope="module")
def embedder() -> AI:
    return AI(catalog=embedders())


@pytest.fixture(scope="module")
def roost(embedder: AI) -> Iterator[str]:
    """A running roost that knows the tests' cards."""
    with live(create_app(embedder)) as address:
        yield address


@pytest.fixture
def client(roost: str) -> Iterator[openai.OpenAI]:
    base = f"{roost}/client/v4/accounts/{ACCOUNT}/ai/v1"
    with openai.OpenAI(base_url=base, api_key="any", max_retries=0) as sdk:
        yield sdk


@pytest.fixture
def native(roost: str) -> Any:
    """What the REST door says to ``TEXTS``."""
    answer = httpx.post(f"{roost}/client/v4/accounts/{ACCOUNT}/ai/run/{SMALL}", json={"text": TEXTS})
    body = answer.raise_for_status().json()
    assert (body["success"], body["result"]["shape"], body["result"]["pooling"]) == (True, [2, 384], "mean")
    assert float(answer.headers["cf-ai-neurons"]) > 0
    assert answer.headers["x-roost-stand-in"] == "all-MiniLM-L6-v2"
    return np.array(body["result"]["data"])


def near(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(np.array(found), wanted, rtol=0, atol=1e-6)


def test_the_cloudflare_sdk_embeds(roost: str, native: Any) -> None:
    with cloudflare.Cloudflare(base_url=f"{roost}/client/v4", api_token="any", max_retries=0) as sdk:
        result: Any = sdk.ai.run(SMALL, account_id=ACCOUNT, text=TEXTS)
        near(result["data"], native)
        with pytest.raises(cloudflare.BadRequestError) as caught:
            sdk.ai.run(SMALL, account_id=ACCOUNT, text=[""])
        assert caught.value.errors[0].code == 5006


@pytest.mark.parametrize("form", [None, "float", "base64"])
def test_the_openai_sdk_embeds_in_either_form(client: openai.OpenAI, native: Any, form: Any) -> None:
    asked: dict[str, Any] = {"model": SMALL, "input": TEXTS, "user": "somebody"}
    said = client.embeddings.create(**asked, **({"encoding_format": form} if form else {}))
    assert [row.index for row in said.data] == [0, 1]
    if form == "base64":
        packed: list[Any] = [row.embedding for row in said.data]
        near([struct.unpack("<384f", base64.b64decode(text)) for text in packed], native)
    else:
        near([row.embedding for row in said.data], native)
    assert (said.object, said.model) == ("list", SMALL)
    assert said.usage.prompt_tokens == said.usage.total_tokens > 10


def test_the_openai_sdk_may_say_how_long_vectors_are_and_which_pooling(client: openai.OpenAI) -> None:
    said = client.embeddings.create(model=WIDE, input=TEXTS[0], dimensions=768, extra_body={"pooling": "cls"})
    plain = client.embeddings.create(model=WIDE, input=TEXTS[0])
    assert len(said.data[0].embedding) == len(plain.data[0].embedding) == 768
    assert said.data[0].embedding != plain.data[0].embedding


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"dimensions": 100}, 5006, "'/dimensions' must be 384"),
    ({"dimensions": "many"}, 5006, "'/dimensions' must be a whole number"),
    ({"encoding_format": "int8"}, 5006, "enum int8 not in float,base64"),
    ({"input": [1, 2, 3]}, 5006, "tokens of OpenAI's own mean nothing"),
    ({"input": [[1, 2], [3]]}, 5006, "tokens of OpenAI's own mean nothing"),
    ({"input": []}, 5006, "'/input' must be text or a list of texts"),
    ({"input": None}, 5006, "'/input' must be text or a list of texts"),
    ({"input": ["a", 1]}, 5006, "'/input' must be text or a list of texts"),
    ({"input": ""}, 5006, "Bad input"),
    ({"input": ["a"] * 101}, 5006, "Bad input"),
    ({"pooling": "max"}, 5006, "Bad input"),
    ({"model": MODEL}, 5006, "'/model' must be an embedding model"),
    ({"model": "@cf/no/such"}, 5007, "No such model"),
    ({"model": None}, 5007, "No such model"),
]


@pytest.mark.parametrize(("change", "code", "said"), REFUSED)
def test_openai_s_door_refuses_in_a_sentence(
    client: openai.OpenAI, change: dict[str, Any], code: int, said: str
) -> None:
    body = {"model": SMALL, "input": "a", **change}
    with pytest.raises(openai.BadRequestError, match=said) as caught:
        client.post("/embeddings", body=body, cast_to=httpx.Response)
    assert caught.value.code == str(code)


def test_the_wire_says_the_bare_result(roost: str, native: Any) -> None:
    body = {"inputs": {"text": TEXTS}, "options": {}}
    answer = httpx.post(f"{roost}/run?version=3", json=body, headers={"cf-consn-model-id": SMALL})
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["shape", "data", "pooling"]
    near(answer.json()["data"], native)


def test_models_of_both_tasks_are_listed(client: openai.OpenAI) -> None:
    assert {MODEL, SMALL, PAIRS} <= {model.id for model in client.models.list()}


@pytest.mark.parametrize("door", ["rest", "openai", "wire"])
def test_a_client_that_hangs_up_takes_the_computation_along(embedder: AI, roost: str, door: str) -> None:
    httpx.post(f"{roost}/client/v4/accounts/a/ai/run/{SMALL}", json={"text": "a"}).raise_for_status()
    (loaded,) = [model for model in embedder.loaded() if SMALL in model.names]
    begun, texts = loaded.stats().steps, [LONG] * 100
    path, body = {
        "rest": (f"/client/v4/accounts/a/ai/run/{SMALL}", {"text": texts}),
        "openai": ("/client/v4/accounts/a/ai/v1/embeddings", {"model": SMALL, "input": texts}),
        "wire": ("/run?version=3", {"inputs": {"text": texts}}),
    }[door]
    content = json.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncf-consn-model-id: {SMALL}\r\ncontent-length: {len(content)}"
    host, port = roost.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"{head}\r\n\r\n{content}".encode())
        while loaded.stats().steps == begun:
            pass
    while loaded.stats().running:
        pass
    assert loaded.stats().steps - begun < 40  # all of it is fifty batches


@needs_node
@pytest.mark.parametrize("way", [miniflare_api, lambda projects, url: wrangler_dev(projects, url, "wrangler-3")])
def test_a_javascript_worker_embeds_on_workerd(
    tmp_path: Path, roost: str, native: Any, way: Callable[[Path, str], AbstractContextManager[Worker]]
) -> None:
    with way(copied(tmp_path), roost) as worker, httpx.Client(base_url=worker.url, timeout=60) as http:
        answer = http.post("/run", json={"model": SMALL, "inputs": {"text": TEXTS}}).raise_for_status().json()
        near(answer["ok"]["data"], native)
        refused = http.post("/run", json={"model": SMALL, "inputs": {"text": []}}).json()
        assert refused["message"].startswith("5006: ")


PYTHON_WORKER = f"""
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        found = await self.env.AI.run("{SMALL}", {{"text": {TEXTS!r}}})
        return Response.json({{"shape": found["shape"], "data": found["data"], "pooling": found["pooling"]}})
"""


async def test_a_python_worker_embeds(tmp_path: Path, roost: str, native: Any) -> None:
    async with serving(tmp_path, PYTHON_WORKER, bindings={"AI": AiWire(roost, None)}) as client:
        answer = (await client.get("/")).raise_for_status().json()
        assert (answer["shape"], answer["pooling"]) == ([2, 384], "mean")
        near(answer["data"], native)


async def test_a_test_may_say_what_the_vectors_are() -> None:
    def answer(_model: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {"shape": [1, 1], "data": [[float(len(inputs["text"]))]]}

    async with aclosing(RoostAI(catalog=embedders())) as ai:
        ai.answers(answer)
        assert await ai.run(SMALL, {"text": "three", "stream": True}) == {"shape": [1, 1], "data": [[5.0]]}
        assert ai.calls == [(SMALL, {"text": "three", "pooling": "mean"})]
        assert ai.loaded() == []


LANGCHAIN = """
import json, sys
from langchain_cloudflare import CloudflareWorkersAIEmbeddings
url, model, account, texts = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
embedding = CloudflareWorkersAIEmbeddings(
    account_id=account, api_token="any", model_name=model, api_base_url=f"{url}/client/v4/accounts"
)
print(json.dumps([embedding.embed_documents(texts), embedding.embed_query(texts[0])]))
"""


@needs_pypi
def test_langchain_embeds(roost: str, native: Any) -> None:
    command = [str(PYTHON), "-c", LANGCHAIN, roost, SMALL, ACCOUNT, json.dumps(TEXTS)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stderr
    documents, query = json.loads(run.stdout.splitlines()[-1])
    near(documents, native)
    near(query, native[0])
