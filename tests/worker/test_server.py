"""The server binds before it announces, and says in one sentence when it can't."""

import socket

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.worker.live import live
from worker.server import PortTaken, bind, url_of


async def _hello(request: Request) -> Response:
    return PlainTextResponse("hello")


def app() -> Starlette:
    return Starlette(routes=[Route("/", _hello)])


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def test_what_is_announced_is_true_before_anything_is_served() -> None:
    with bind("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        assert url_of(listener) == f"http://127.0.0.1:{port_of(listener)}"


def test_a_port_in_use_is_one_sentence() -> None:
    with (
        bind("127.0.0.1", 0) as listener,
        pytest.raises(PortTaken, match=r"^port \d+ on 127.0.0.1 can't be had: [^\n]+$"),
    ):
        bind("127.0.0.1", port_of(listener))


def test_a_port_in_use_gives_way_to_the_next_where_that_will_do() -> None:
    with bind("127.0.0.1", 0) as first, bind("127.0.0.1", port_of(first), or_next=True) as second:
        assert port_of(second) > port_of(first)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_an_address_that_is_not_this_machines_is_one_sentence(host: str) -> None:
    with pytest.raises(OSError, match=r"^[^\n]+$"):
        bind(host, 0)


def test_the_search_for_a_free_port_ends_with_the_last_one() -> None:
    with bind("127.0.0.1", 65535), pytest.raises(PortTaken):
        bind("127.0.0.1", 65535, or_next=True)


def test_everywhere_is_announced_as_the_loopback() -> None:
    with bind("0.0.0.0", 0) as listener:
        assert url_of(listener) == f"http://127.0.0.1:{port_of(listener)}"


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_ipv6_is_served_at_an_address_in_brackets() -> None:
    with live(app(), "::1") as url:
        assert url.startswith("http://[::1]:")
        assert httpx.get(url).text == "hello"


def test_a_server_that_ends_leaves_its_port_free() -> None:
    with live(app()) as url:
        assert httpx.get(url).text == "hello"
    with bind("127.0.0.1", int(url.rsplit(":", 1)[1])):
        pass


def test_a_servers_socket_has_one_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[socket.socket] = []

    def keep(host: str, port: int) -> socket.socket:
        kept.append(bind(host, port))
        return kept[0]

    monkeypatch.setattr("tests.worker.live.bind", keep)
    with live(app()):
        assert kept[0].fileno() == -1, "hypercorn closes this descriptor too, by then another's perhaps"
