"""The host: who may knock, and what roost says of itself."""

import importlib.metadata
import socket
from collections.abc import Iterator
from contextlib import aclosing

import httpx
import pytest
from openai import AuthenticationError, OpenAI

from tests.worker.asking import GREEDY, MODEL
from tests.worker.live import live
from worker import AI, AiError
from wrangler_compat.app import create_app

HEALTH, PS, SEARCH = "/cdn-cgi/local/health", "/cdn-cgi/local/ps", "/client/v4/accounts/local/ai/models/search"
TOKEN = "a secret"


@pytest.fixture(scope="module")
def guarded() -> Iterator[httpx.Client]:
    """A roost that asks for a token, and so serves any host."""
    with live(create_app(AI(), hosts=None, token=TOKEN)) as url, httpx.Client(base_url=url) as client:
        yield client


def test_health_is_200_once_a_door_is_ready(http: httpx.Client) -> None:
    answer = http.get(HEALTH)
    assert answer.status_code == 200
    assert answer.json().keys() == {"status", "live", "ready", "version", "device", "models"}
    assert (answer.json()["status"], answer.json()["version"]) == ("ok", importlib.metadata.version("roost"))


@pytest.mark.weights
def test_ps_tells_what_is_loaded_and_what_it_does(http: httpx.Client, rest: httpx.Client) -> None:
    rest.post(f"/run/{MODEL}", json=GREEDY)
    (row,) = http.get(PS).json()["loaded"]
    assert row["names"] == [MODEL]
    assert (row["weights"], row["precision"], row["stand_in"]) == ("SmolLM2-135M-Instruct", "Q4_1", True)
    assert (row["running"], row["waiting"], row["cached_tokens"]) == (0, 0, 0)
    assert row["generated_tokens"] >= 8
    assert 90 < row["megabytes"] < 200
    assert row["idle_seconds"] >= 0
    assert http.get(HEALTH).json()["models"] == {MODEL: "loaded"}


@pytest.mark.parametrize("path", [HEALTH, PS, SEARCH, "/nothing", "/run"])
def test_no_answer_names_the_server(http: httpx.Client, path: str) -> None:
    assert "server" not in http.get(path).headers


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:1",
        "127.0.0.1:8790",
        "[::1]",
        "[::1]:8790",
        "workers-binding.ai",
        "workers-binding.ai:443",
    ],
)
def test_a_host_of_ours_is_served(http: httpx.Client, host: str) -> None:
    assert http.get(SEARCH, headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8790",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "[::2]",
        "[::1",
        "",
    ],
)
@pytest.mark.parametrize("path", [HEALTH, PS, SEARCH, "/nothing"])
def test_a_host_of_anothers_is_refused_before_any_door(http: httpx.Client, host: str, path: str) -> None:
    answer = http.get(path, headers={"host": host})
    assert answer.status_code == 403
    (error,) = answer.json()["errors"]
    assert error["message"].startswith("roost doesn't serve the host ")


def test_a_request_that_names_two_hosts_is_refused(url: str) -> None:
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 80), timeout=10) as connection:
        connection.sendall(f"GET {PS} HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n".encode())
        status = connection.recv(100).split(b" ", 2)[1]
    assert status in (b"400", b"403")


WRONG = [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"]
NO_TOKEN = (401, 10000, "Authentication error")
NO_HEADER = (400, 9106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers")
NO_BEARER = (400, 6003, "Invalid request headers")


def told(guarded: httpx.Client, path: str, given: str | None) -> tuple[int, int, str]:
    answer = guarded.get(path, headers={} if given is None else {"authorization": given})
    assert answer.json()["result"] is None
    assert "cf-ai-req-id" not in answer.headers
    (error,) = answer.json()["errors"]
    return answer.status_code, error["code"], error["message"]


@pytest.mark.parametrize("given", WRONG)
@pytest.mark.parametrize("path", [PS, "/nothing"])
def test_without_the_token_nothing_is_told(guarded: httpx.Client, path: str, given: str | None) -> None:
    assert told(guarded, path, given) == NO_TOKEN


@pytest.mark.parametrize("given", WRONG)
@pytest.mark.parametrize("path", [SEARCH, "/client/v4/nothing", "/client/v4/user/tokens/verify"])
def test_the_api_says_what_is_wrong_with_the_credentials(guarded: httpx.Client, path: str, given: str | None) -> None:
    if given is None:
        expected = NO_HEADER
    elif not given.startswith("Bearer "):
        expected = NO_BEARER
    else:
        expected = (401, 1000, "Invalid API Token") if path.endswith("verify") else NO_TOKEN
    assert told(guarded, path, given) == expected


@pytest.mark.parametrize("key", ["wrong", "schlüssel"])
def test_openai_s_sdk_shows_the_code_of_a_wrong_token(guarded: httpx.Client, key: str) -> None:
    base = f"{guarded.base_url}/client/v4/accounts/any/ai/v1"
    answer = guarded.get(f"{base}/models", headers={b"authorization": f"Bearer {key}".encode()})
    assert answer.json()["error"]["message"] == "10000: Authentication error"
    wrong = OpenAI(base_url=base, api_key="wrong", max_retries=0)
    with wrong as sdk, pytest.raises(AuthenticationError, match="10000: Authentication error"):
        sdk.models.list()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_with_the_token_every_door_opens_at_any_host(guarded: httpx.Client, scheme: str) -> None:
    headers = {"authorization": f"{scheme} {TOKEN}", "host": "roost.example"}
    assert guarded.get(SEARCH, headers=headers).status_code == 200


def test_a_token_may_be_of_any_characters() -> None:
    with live(create_app(AI(), token="schlüssel")) as url:
        headers = {b"authorization": "Bearer schlüssel".encode()}
        assert httpx.get(f"{url}{SEARCH}", headers=headers).status_code == 200


def test_health_needs_no_token(guarded: httpx.Client) -> None:
    assert guarded.get(HEALTH).status_code == 200


async def test_the_binding_shows_its_token(guarded: httpx.Client) -> None:
    async with aclosing(AI(url=str(guarded.base_url), token=TOKEN)) as remote:
        assert [model["name"] for model in await remote.models({"search": "starling"})] == [MODEL]


async def test_a_binding_without_the_token_is_refused(guarded: httpx.Client) -> None:
    async with aclosing(AI(url=str(guarded.base_url))) as remote:
        with pytest.raises(AiError) as caught:
            await remote.run(MODEL, GREEDY)
    assert (caught.value.code, caught.value.status, caught.value.description) == (10000, 401, "Authentication error")


def test_no_answer_allows_another_origin(http: httpx.Client) -> None:
    answer = http.get(SEARCH, headers={"origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control-")]
