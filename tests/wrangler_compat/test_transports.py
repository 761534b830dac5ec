"""The same call, however it is carried: plain, packed by miniflare, forwarded by an old wrangler."""

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from catalog import Catalog
from catalog.card import parse_card
from tests.worker.asking import GREEDY, MODEL
from tests.worker.live import live
from worker import AI
from worker.guard import PREVIEW_HEADER, TOKEN_PARAMETER
from worker.raw_body import with_raw_body
from wrangler_compat.app import create_app

pytestmark = pytest.mark.weights

Send = Callable[..., httpx.Response]
HOST = "https://workers-binding.ai"
NAMED = {"cf-consn-model-id": MODEL, "cf-consn-sdk-version": "2.0.0"}
RUN = {"inputs": GREEDY, "options": {}}


def plain(http: httpx.Client, method: str, path: str, headers: dict[str, str], **parts: Any) -> httpx.Response:
    return http.request(method, path, headers={**headers, "host": "workers-binding.ai"}, **parts)


def miniflare(http: httpx.Client, method: str, path: str, headers: dict[str, str], **parts: Any) -> httpx.Response:
    packed = {f"MF-Header-{name}": value for name, value in headers.items()}
    return http.request(method, "/", headers={**packed, "MF-URL": HOST + path, "MF-Binding": "AI"}, **parts)


def old_wrangler(http: httpx.Client, method: str, path: str, headers: dict[str, str], **parts: Any) -> httpx.Response:
    proxy = "/client/v4/accounts/0/ai/run/proxy"
    return http.request(method, proxy, headers={**headers, "X-Forwarded": HOST + path}, **parts)


@pytest.fixture(params=[plain, miniflare, old_wrangler])
def send(request: pytest.FixtureRequest, http: httpx.Client) -> Send:
    """A call of the wire, over one of the transports."""

    def call(method: str, path: str, headers: dict[str, str] | None = None, **parts: Any) -> httpx.Response:
        answer: httpx.Response = request.param(http, method, path, headers or {}, **parts)
        assert answer.headers["cf-ai-req-id"]
        return answer

    return call


def test_a_run(send: Send, rest: httpx.Client) -> None:
    answer = send("POST", "/run?version=3", NAMED, json=RUN)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["response"] == rest.post(f"/run/{MODEL}", json=GREEDY).json()["result"]["response"]


def test_a_stream(send: Send) -> None:
    answer = send("POST", "/run?version=3", NAMED, json={"inputs": {**GREEDY, "stream": True}})
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.content.endswith(b"data: [DONE]\n\n")


def test_a_prefix_before_the_model(send: Send) -> None:
    named = {"cf-consn-model-id": f"dev:{MODEL}"}
    assert send("POST", "/run?version=3", named, json=RUN).status_code == 200


def test_the_older_version_of_the_call(send: Send) -> None:
    assert send("POST", "/run?version=2", NAMED, json=RUN).json()["response"]


def test_models(send: Send) -> None:
    assert send("GET", "/ai-api/models/search?search=starling").json()["result"][0]["name"] == MODEL


def test_a_wrong_path_or_method(send: Send) -> None:
    assert send("GET", "/nothing").json()["errors"][0]["code"] == 7000
    assert send("GET", "/run").status_code == 405


def test_a_raw_body_for_a_model_that_takes_none(send: Send) -> None:
    path = "/run?version=3&tags=a&userInputs=%7B%22language%22%3A%22en%22%7D"
    refusal = send("POST", path, {**NAMED, "content-type": "audio/wav"}, content=b"RIFF")
    assert (refusal.status_code, refusal.json()["internalCode"]) == (400, 5006)
    assert "takes no stream" in refusal.json()["description"]
    assert send("POST", "/run?userInputs=%5B%5D", NAMED, content=b"a").json()["internalCode"] == 5006
    assert send("POST", "/run?userInputs=x", NAMED, content=b"a").json()["internalCode"] == 5006


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"type": "array", "items": {"type": "number"}}, [1, 2, 255]),
        ({"oneOf": [{"type": "array", "items": {"type": "number"}}]}, [1, 2, 255]),
        ({"type": "string", "format": "binary"}, base64.b64encode(b"\1\2\xff").decode()),
        (
            {"type": "object", "properties": {"body": {}, "contentType": {}}},
            {"body": {"base64": base64.b64encode(b"\1\2\xff").decode()}, "contentType": "audio/wav"},
        ),
    ],
)
def test_a_raw_body_takes_the_place_that_the_schema_has_for_it(spec: dict[str, Any], expected: Any) -> None:
    fields = {"id": "x", "source": 1, "name": "@cf/a/b", "description": "A.", "task": {"id": "t", "name": "T"}}
    schema = {"input": {"properties": {"language": {"type": "string"}, "audio": spec}}}
    card = parse_card(json.dumps({**fields, "schema": schema}), ".json")
    given = with_raw_body(card, {"language": "en"}, b"\1\2\xff", "audio/wav")
    assert given == {"language": "en", "audio": expected}


def test_a_gateways_run_is_logged(send: Send) -> None:
    options: dict[str, Any] = {"gateway": {"id": "mine", "metadata": {"user": 1}}}
    answer = send("POST", "/ai-gateway/run?version=3", NAMED, json={"inputs": GREEDY, "options": options})
    path = f"/ai-gateway/gateways/mine/logs/{answer.headers['cf-aig-log-id']}"
    entry = send("GET", path).json()["result"]
    usage = answer.json()["usage"]
    assert (entry["tokens_in"], entry["tokens_out"]) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert (entry["success"], entry["status_code"], entry["metadata"]) == (True, 200, {"user": 1})
    assert entry["response_size"] == len(answer.content)
    assert send("PATCH", path, json={"feedback": -1, "id": "no"}).json()["result"]["feedback"] == -1
    assert send("GET", path).json()["result"]["id"] == entry["id"]
    assert send("GET", path.replace("/mine/", "/yours/")).status_code == 404
    options["gateway"]["collectLog"] = False
    quiet = send("POST", "/ai-gateway/run", NAMED, json={"inputs": GREEDY, "options": options})
    assert "cf-aig-log-id" not in quiet.headers


def test_a_gateway_falls_back_to_the_next_step(send: Send) -> None:
    steps = [{"provider": "openai"}, "no step", {"provider": "workers-ai", "endpoint": MODEL, "query": GREEDY}]
    answer = send("POST", "/ai-gateway/universal/run/mine", json=steps)
    assert (answer.headers["cf-aig-step"], answer.json()["success"]) == ("2", True)
    refused = send("POST", "/ai-gateway/universal/run/mine", json=steps[:1])
    assert refused.status_code == 501
    assert send("POST", "/ai-gateway/universal/run/mine", json={}).status_code == 400


def test_a_gateways_url_leads_here(send: Send, http: httpx.Client) -> None:
    url = send("GET", "/ai-gateway/gateways/mine/url/workers-ai").json()["result"]["url"]
    assert url.startswith(str(http.base_url))
    assert httpx.post(f"{url}/{MODEL}", json=GREEDY, timeout=60).json()["result"]["response"]
    elsewhere = send("GET", "/ai-gateway/gateways/mine/url/openai").json()["result"]["url"]
    assert httpx.post(f"{elsewhere}/chat/completions", json={}).status_code == 501
    assert send("GET", "/ai-gateway/gateways/mine/url/universal").json()["result"]["url"].endswith("/mine")


def test_documents_become_markdown(send: Send) -> None:
    page = "<title>x</title><style>p{}</style><h1>A</h1><p class=b>to <a href='/x'>there</a></p><table><tr><th>c"
    files = [
        ("a.html", "text/html", page),
        ("a.csv", "text/csv", 'a,b\n"x, <y>",2\n'),
        ("a.md", "", "# As it is"),
        ("a.txt", "text/plain; charset=utf-8", "é"),
        ("a.pdf", "application/pdf", "%PDF"),
    ]
    given = [
        {"name": name, "mimeType": kind, "data": base64.b64encode(text.encode()).decode()} for name, kind, text in files
    ]
    options = {"conversionOptions": {"html": {"hostname": "example.com", "cssSelector": "p.b"}}}
    body = {"files": [*given, {"name": "b.txt", "mimeType": "text/plain", "data": "?"}, 7], "options": options}
    result = send("POST", "/to-everything/markdown/transformer", json=body).json()["result"]
    assert result[0]["data"] == "to [there](https://example.com/x)"
    assert "| a | b |" in result[1]["data"]
    assert "x, <y>" in result[1]["data"]
    assert [entry.get("data") for entry in result[2:4]] == ["# As it is", "é"]
    assert [entry["format"] for entry in result] == [*["markdown"] * 4, *["error"] * 3]
    assert "Unsupported file type application/pdf" in result[4]["error"]
    assert all(entry["tokens"] > 0 for entry in result[:4])
    assert send("POST", "/to-everything/markdown/transformer", json={}).status_code == 400
    listed = send("GET", "/to-everything/markdown/supported").json()["result"]
    assert {"extension": ".html", "mimeType": "text/html"} in listed


def test_what_roost_has_not_is_said(send: Send) -> None:
    for method, path in (("GET", "/autorag/rags"), ("POST", "/autorag/rags/mine/ai-search")):
        refusal = send(method, path, json={})
        assert (refusal.status_code, refusal.json()["internalCode"]) == (501, 5902)


def test_another_remote_binding_is_named(http: httpx.Client) -> None:
    headers = {"MF-URL": "https://vectorize.example/query", "MF-Binding": "INDEX"}
    refusal = http.post("/", headers=headers, json={})
    assert refusal.status_code == 501
    assert "INDEX is not an AI binding" in refusal.json()["description"]


@pytest.mark.parametrize(
    ("path", "headers", "status", "said"),
    [
        ("/run?version=3&body=%7B%7D", NAMED, 400, "does not support WebSocket"),
        ("/run?version=3", {}, 400, "No such model"),
        ("/", {"MF-URL": f"{HOST}/run?version=3", "MF-Header-cf-consn-model-id": MODEL}, 400, "WebSocket"),
    ],
)
def test_a_websocket_is_refused_with_a_sentence(
    url: str, path: str, headers: dict[str, str], status: int, said: str
) -> None:
    upgrade = {"upgrade": "websocket", "connection": "upgrade", "sec-websocket-version": "13"}
    key = {"sec-websocket-key": base64.b64encode(bytes(16)).decode()}
    refusal = httpx.get(f"{url}{path}", headers={**upgrade, **key, **headers})
    assert refusal.status_code == status
    assert said in refusal.json()["description"]
    assert refusal.headers["connection"] == "close"  # or a client that keeps connections would send its next into it


def test_a_call_over_javascript_rpc_is_refused_with_a_sentence() -> None:
    client = TestClient(create_app(AI()))
    with client.websocket_connect("ws://localhost/?MF-Binding=AI") as session:
        session.send_text('["push",["pipeline",0,["aiSearch"],[]]]')
        session.send_text("?")
        session.send_text('["pull",1]')
        verb, asked, (kind, name, message) = session.receive_json()
        assert (verb, asked, kind, name) == ("reject", 1, "error", "Error")
        assert "5902: this call goes over JavaScript RPC" in message
        assert session.receive_json() == ["abort", [kind, name, message]]  # roost doesn't wait for long
        assert session.receive()["type"] == "websocket.close"


@pytest.mark.parametrize("carried", ["bearer", "preview", "query"])
def test_a_token_travels_as_the_transport_can_carry_it(carried: str) -> None:
    headers = {"bearer": {"authorization": "Bearer a+&é".encode()}, "preview": {PREVIEW_HEADER: "a+&é".encode()}}
    with live(create_app(AI(catalog=Catalog.load()), token="a+&é")) as url:
        params = {TOKEN_PARAMETER: "a+&é"} if carried == "query" else {}
        packed = {"MF-URL": f"{HOST}/ai-api/models/search", "MF-Binding": "AI"}
        given: Any = {**packed, **headers.get(carried, {})}
        assert httpx.get(url, params=params, headers=given).status_code == 200
        assert httpx.get(url, headers=packed).status_code == 401
        assert httpx.get(url, params={TOKEN_PARAMETER: "a"}, headers=packed).status_code == 401


def test_a_preview_session_as_wrangler_opens_it(http: httpx.Client) -> None:
    api, bearer = "/client/v4/accounts/0", {"authorization": "Bearer mine"}

    def result(path: str) -> Any:
        return http.get(f"{api}{path}", headers=bearer).raise_for_status().json()["result"]

    session = result("/workers/subdomain/edge-preview")
    exchanged = httpx.get(session["exchange_url"]).raise_for_status().json()
    assert exchanged["token"] == session["token"] == "mine"
    assert httpx.post(exchanged["prewarm"]).is_success
    assert exchanged["inspector_websocket"].startswith("ws://")
    upload = http.post(f"{api}/workers/scripts/x/edge-preview", headers=bearer, files={"metadata": b"{}"})
    assert upload.json()["result"] == {"preview_token": "mine"}
    assert result("/workers/scripts/x/subdomain/edge-preview") == session
    assert ":" in result("/workers/subdomain")["subdomain"]  # no valid host, see accounts.py
    for path in (
        "/user",
        "/user/tokens/verify",
        "/accounts",
        "/memberships",
        "/accounts/0",
        "/accounts/0/ai/finetunes",
    ):
        assert http.get(f"/client/v4{path}").raise_for_status().json()["success"] is True
