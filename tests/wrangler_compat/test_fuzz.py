"""What no client of ours would send: JSON of any shape at every door that is posted to, and broken HTTP on raw sockets.

The laws: no 500, no traceback, no hang, an envelope with the fault, and the next good request is answered.
``make fuzz`` tries more.
"""

import json
import os
import socket
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.worker.asking import MODEL
from tests.wrangler_compat.test_security import ALL

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "12"))
POSTED = sorted({path.replace("/run/x", f"/run/{MODEL}") for method, path in ALL if method == "POST"})
NAMES = ["model", "prompt", "messages", "input", "text", "tools", "stop", "logit_bias", "response_format", "stream"]
PARTS = ["role", "content", "type", "function", "name", "inputs", "options", "provider", "endpoint", "query", "files"]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.sampled_from([MODEL, "user", "-1"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(PARTS) | st.text(), inner, max_size=4),
    max_leaves=12,
)
BODIES = st.dictionaries(st.sampled_from(NAMES + PARTS), VALUES, max_size=6).map(lambda body: {**body, "max_tokens": 1})
SETTINGS = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


def hold(answer: httpx.Response) -> None:
    """The laws of an answer to something bad."""
    assert answer.status_code != 500, answer.text
    assert "Traceback" not in answer.text
    if answer.status_code >= 400 and "json" in answer.headers.get("content-type", ""):
        assert isinstance(answer.json(), dict | list)


@pytest.mark.weights
@pytest.mark.parametrize("path", POSTED)
def test_no_json_breaks_a_door(http: httpx.Client, path: str) -> None:
    @SETTINGS
    @given(BODIES | VALUES)
    def law(body: Any) -> None:
        hold(http.post(path, content=json.dumps(body), headers={"content-type": "application/json"}))

    law()
    assert http.get("/cdn-cgi/local/health").status_code == 200


KINDS = ["", "text/plain", "multipart/form-data; boundary=x", "multipart/"]
DEEP = ["[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000]


@pytest.mark.parametrize("path", POSTED)
@pytest.mark.parametrize("body", DEEP, ids=["open", "lists", "objects"])
def test_json_nested_without_end_is_refused(url: str, path: str, body: str) -> None:
    # On a connection of its own: one whose body was refused unread is closed.
    hold(httpx.post(url + path, content=body, headers={"content-type": "application/json"}, timeout=60))


@pytest.mark.parametrize("path", POSTED)
def test_no_bytes_break_a_door(http: httpx.Client, path: str) -> None:
    @SETTINGS
    @given(st.binary(max_size=200), st.sampled_from(KINDS))
    def law(body: bytes, kind: str) -> None:
        hold(http.post(path, content=body, headers={"content-type": kind}))

    law()


HEAD = b"POST /client/v4/accounts/a/ai/run/x HTTP/1.1\r\nhost: localhost\r\n"
BROKEN = {
    "no request line": b"\r\n\r\n\r\n",
    "a bad request line": b"GET\r\n\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9,
    "a version of the future": b"GET / HTTP/9.9\r\nhost: localhost\r\n\r\n",
    "a header without a name": HEAD + b": x\r\n\r\n",
    "a header with NUL": HEAD + b"x: a\0b\r\n\r\n",
    "a flood of headers": HEAD + b"x: y\r\n" * 100_000 + b"\r\n",
    "a header without end": HEAD + b"x: " + b"y" * 1_000_000,
    "a length and chunks": HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "a length below zero": HEAD + b"content-length: -1\r\n\r\n",
    "bad chunks": HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n",
    "half a body": HEAD + b"content-length: 1000\r\n\r\n{",
    "half a chunk": HEAD + b"transfer-encoding: chunked\r\n\r\nff\r\nabc",
    "half a head": HEAD[:30],
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=list(BROKEN))
def test_broken_http_ends_its_connection_alone(http: httpx.Client, url: str, sent: bytes) -> None:
    address = httpx.URL(url)
    told = b""
    with socket.create_connection((address.host, address.port or 80), timeout=20) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                told += piece
        except OSError:
            pass  # refused before it was all sent
    assert b"Traceback" not in told
    assert not told.startswith(b"HTTP/1.1 500")
    assert http.get("/cdn-cgi/local/health").status_code == 200
