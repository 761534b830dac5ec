"""Cloudflare's own SDK works against roost with nothing changed but its base URL."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from cloudflare import APIStatusError, BadRequestError, Cloudflare

from catalog import Catalog
from tests.worker.asking import GREEDY, MODEL
from tests.wrangler_compat.conftest import ACCOUNT

pytestmark = pytest.mark.weights


@pytest.fixture
def client(url: str) -> Iterator[Cloudflare]:
    with Cloudflare(base_url=f"{url}/client/v4", api_token="any", max_retries=0) as sdk:
        yield sdk


def test_the_sdk_runs_a_model_whose_name_it_escapes(client: Cloudflare, rest: httpx.Client) -> None:
    raw = client.ai.with_raw_response.run(MODEL, account_id=ACCOUNT, **GREEDY)
    assert "%2F" in str(raw.http_request.url)
    assert raw.http_response.json() == rest.post(f"/run/{MODEL}", json=GREEDY).json()
    answer: Any = client.ai.run(MODEL, account_id=ACCOUNT, **GREEDY)
    assert answer["usage"]["completion_tokens"] == 8


def test_the_sdk_runs_a_chat(client: Cloudflare) -> None:
    chat: Any = [{"role": "user", "content": "hello"}]
    answer: Any = client.ai.run(MODEL, account_id=ACCOUNT, messages=chat, max_tokens=3)
    assert answer["response"]


def test_the_sdks_pagination_ends(client: Cloudflare) -> None:
    listed: list[Any] = list(client.ai.models.list(account_id=ACCOUNT, per_page=20))
    assert [model["name"] for model in listed] == sorted(Catalog.load().cards)


def test_the_sdk_filters_models(client: Cloudflare) -> None:
    found: list[Any] = list(
        client.ai.models.list(account_id=ACCOUNT, source=2, task="Text Generation", search="starling")
    )
    assert [model["name"] for model in found] == [MODEL]
    assert list(client.ai.models.list(account_id=ACCOUNT, author="nexusflow", hide_experimental=True)) == []


def test_the_sdk_reads_a_schema(client: Cloudflare) -> None:
    schema = client.ai.models.schema.get(account_id=ACCOUNT, model=MODEL)
    assert schema.to_dict() == {
        "input": Catalog.load()[MODEL].input_schema,
        "output": Catalog.load()[MODEL].output_schema,
    }


@pytest.mark.parametrize(
    ("model", "inputs", "kind", "code"),
    [
        ("@cf/no/such", {}, BadRequestError, 5007),
        (MODEL, {"temperature": 9}, BadRequestError, 5006),
        (MODEL, {"max_tokens": 5000}, APIStatusError, 5021),
    ],
)
def test_the_sdk_raises_the_platforms_errors(
    client: Cloudflare, model: str, inputs: dict[str, Any], kind: type[APIStatusError], code: int
) -> None:
    with pytest.raises(kind) as caught:
        client.ai.run(model, account_id=ACCOUNT, prompt="hello", **inputs)
    assert [error.code for error in caught.value.errors] == [code]
