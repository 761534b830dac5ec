"""Reading a body, and racing the work against a client that leaves."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from worker.errors import BadBody, BodyTooLarge, ClientLeft
from worker.requests import MAX_BODY, read_json, until_client_leaves

LEFT: Message = {"type": "http.disconnect"}


def request(messages: Sequence[Message]) -> Request:
    """A request whose server delivers each message once and then nothing, as hypercorn does."""
    queue: asyncio.Queue[Message] = asyncio.Queue()
    for message in messages:
        queue.put_nowait(message)
    return Request({"type": "http", "method": "POST", "headers": []}, queue.get)


def body(*pieces: bytes) -> Request:
    return request([{"type": "http.request", "body": piece, "more_body": piece != pieces[-1]} for piece in pieces])


async def forever() -> None:
    await asyncio.Event().wait()


async def at_once() -> str:
    return "done"


async def test_a_body_is_read_in_whatever_pieces_it_comes() -> None:
    assert await read_json(body(b'{"prompt"', b': "\xc3', b'\xa9"}')) == {"prompt": "é"}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"a"', b"null", b"\xff\xfe", b"[" * 100_000, b"1" * 5000])
async def test_a_body_that_is_no_json_object_is_a_bad_body(content: bytes) -> None:
    with pytest.raises(BadBody) as caught:
        await read_json(body(content))
    assert "\n" not in str(caught.value)


async def test_a_body_past_the_limit_is_refused_before_it_is_read_to_its_end() -> None:
    endless: list[Message] = [{"type": "http.request", "body": b" " * MAX_BODY, "more_body": True}] * 2
    with pytest.raises(BodyTooLarge):
        await asyncio.wait_for(read_json(request(endless)), 30)


async def test_work_that_ends_gives_its_result() -> None:
    assert await until_client_leaves(request([]), at_once()) == "done"


async def test_works_own_fault_is_raised() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await until_client_leaves(request([]), fail())


async def test_work_is_cancelled_and_over_when_its_client_has_left() -> None:
    ended: list[Any] = []

    async def work() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            ended.append("cancelled")

    with pytest.raises(ClientLeft):
        await until_client_leaves(request([LEFT]), work())
    assert ended == ["cancelled"]


async def test_cancelling_the_race_cancels_the_work() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await forever()
        finally:
            ended.set()

    race = asyncio.create_task(until_client_leaves(request([]), work()))
    await asyncio.sleep(0.01)
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    assert ended.is_set()


async def test_a_client_that_leaves_as_one_work_ends_is_not_forgotten_by_the_next() -> None:
    leaving = request([LEFT])

    async def one_after_the_other() -> None:
        await until_client_leaves(leaving, at_once())
        await until_client_leaves(leaving, forever())

    with pytest.raises(ClientLeft):
        await asyncio.wait_for(one_after_the_other(), 2)
