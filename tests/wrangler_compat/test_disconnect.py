"""A client that hangs up takes the computation along, whatever door it came through."""

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from runtime.artifacts import ArtifactStore
from runtime.config import EngineConfig
from runtime.pool import Pool
from tests.worker.asking import ENDLESS, FAR_BELOW, GREEDY, MODEL
from tests.worker.live import computing_at, idle_at, live, ps
from worker import AI
from wrangler_compat.app import create_app

pytestmark = pytest.mark.weights

HangUp = Callable[[socket.socket], None]


def at_the_rest_door(inputs: dict[str, Any]) -> bytes:
    return post(f"/client/v4/accounts/local/ai/run/{MODEL}", inputs)


def at_the_wire_door(inputs: dict[str, Any]) -> bytes:
    return post("/run?version=3", {"inputs": inputs, "options": {}}, f"cf-consn-model-id: {MODEL}\r\n")


def post(path: str, body: dict[str, Any], headers: str = "") -> bytes:
    content = json.dumps(body)
    return (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {len(content)}\r\n\r\n{content}".encode()
    )


def close(connection: socket.socket) -> None:
    connection.close()


def reset(connection: socket.socket) -> None:
    """Close with a RST, as a killed process's kernel may."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def connect(url: str) -> socket.socket:
    address = httpx.URL(url)
    return socket.create_connection((address.host, address.port or 80), timeout=60)


@pytest.fixture
def before(url: str, rest: httpx.Client) -> int:
    """Tokens generated until now, by a model that is loaded."""
    rest.post(f"/run/{MODEL}", json=GREEDY)
    return int(idle_at(url)["generated_tokens"])


@pytest.mark.parametrize("hang_up", [close, reset])
@pytest.mark.parametrize("door", [at_the_rest_door, at_the_wire_door])
def test_a_client_that_leaves_its_stream_stops_it(
    url: str, before: int, door: Callable[[dict[str, Any]], bytes], hang_up: HangUp
) -> None:
    connection = connect(url)
    connection.sendall(door({**ENDLESS, "stream": True}))
    read = b""
    while b"data: " not in read:
        read += connection.recv(4096)
    hang_up(connection)
    assert idle_at(url)["generated_tokens"] - before < FAR_BELOW


@pytest.mark.parametrize("tokens", [0, 5], ids=["at once", "half way"])
@pytest.mark.parametrize("hang_up", [close, reset])
@pytest.mark.parametrize("door", [at_the_rest_door, at_the_wire_door])
def test_a_client_that_leaves_while_it_waits_stops_the_answer(
    url: str, before: int, door: Callable[[dict[str, Any]], bytes], hang_up: HangUp, tokens: int
) -> None:
    connection = connect(url)
    connection.sendall(door(ENDLESS))
    computing_at(url, before + tokens)
    hang_up(connection)
    assert idle_at(url)["generated_tokens"] - before < FAR_BELOW


def test_a_client_that_leaves_the_queue_frees_its_place() -> None:
    ai = AI(pool=Pool(ArtifactStore(), config=EngineConfig(rows=1, waiting=1)))
    with live(create_app(ai)) as url, connect(url) as served:
        served.sendall(at_the_rest_door({**ENDLESS, "stream": True}))
        served.recv(100)
        with connect(url) as queued:
            queued.sendall(at_the_rest_door(ENDLESS))
            wait_for_queue(url, 1)
        wait_for_queue(url, 0)
        assert ps(url)["running"] == 1


def wait_for_queue(url: str, length: int) -> None:
    while ps(url)["waiting"] != length:
        time.sleep(0.001)


def test_a_client_that_leaves_in_the_middle_of_its_request_harms_nobody(url: str, before: int) -> None:
    for end in (20, 90, 200):
        connection = connect(url)
        connection.sendall(at_the_rest_door(ENDLESS)[:end])
        connection.close()
    assert ps(url)["generated_tokens"] == before


def test_fifty_clients_that_leave_at_random_leave_no_row_behind(url: str, before: int) -> None:
    connections = [connect(url) for _ in range(50)]
    for number, connection in enumerate(connections):
        connection.sendall(at_the_rest_door({**ENDLESS, "stream": number % 2 == 0}))
    computing_at(url)
    for connection in connections[::2] + connections[1::2]:
        connection.close()
    row = idle_at(url)
    assert row["cached_tokens"] == 0
    assert row["generated_tokens"] - before < 50 * FAR_BELOW


def test_one_who_leaves_disturbs_nobody(url: str, rest: httpx.Client, before: int) -> None:
    alone = rest.post(f"/run/{MODEL}", json=GREEDY).json()
    with connect(url) as connection:
        connection.sendall(at_the_rest_door({**ENDLESS, "stream": True}))
        connection.recv(100)
        during = rest.post(f"/run/{MODEL}", json=GREEDY).json()
    assert during == alone
    idle_at(url)
