"""What doors share in reading a request and in noticing that its client left. Knows no route and no model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from worker.errors import BadBody, BodyTooLarge, ClientLeft

MAX_BODY = 32 << 20
"""Bytes a door takes in one body; the platform's own limit on a Worker's AI request isn't published."""

_LEFT = "roost.client_left"
_T = TypeVar("_T")


async def read_body(request: Request) -> bytes:
    """The body as it came; raises :class:`BodyTooLarge` past :data:`MAX_BODY`, :class:`ClientLeft` in mid body."""
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_BODY:
                raise BodyTooLarge
    except ClientDisconnect as error:
        raise ClientLeft from error
    return bytes(body)


async def read_json(request: Request) -> dict[str, Any]:
    """The body as a JSON object, whatever its content type says (curl's default is a form).

    Raises :class:`BadBody` if it isn't one, :class:`BodyTooLarge` past :data:`MAX_BODY`.
    """
    return parse_json(await read_body(request), dict)


def parse_json(text: str | bytes, kind: type[_T]) -> _T:
    """The JSON value in ``text``, which must be a ``kind``: a dict, or a list. Raises :class:`BadBody` otherwise."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadBody(str(error)) from error
    if not isinstance(value, kind):
        wanted = "an object" if kind is dict else "an array"
        raise BadBody(f"expected {wanted}, got {type(value).__name__}")
    return value


async def until_client_leaves(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """The result of ``work``, which is cancelled if the client leaves first (then :class:`ClientLeft`).

    The request's body must have been read.
    """
    if request.scope.get(_LEFT):
        work.close()
        raise ClientLeft
    running = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({running, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if running.done() and not leaving.done():
            return running.result()
        await _discard(running)
        raise ClientLeft
    finally:
        leaving.cancel()
        running.cancel()
        await asyncio.gather(running, leaving, return_exceptions=True)


async def _discard(work: asyncio.Task[Any]) -> None:
    """Close what the work came to as its client left, if that can be closed."""
    if work.done() and not work.cancelled() and work.exception() is None:
        close = getattr(work.result(), "aclose", None)
        if close is not None:
            await close()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    request.scope[_LEFT] = True  # the message comes once, and other work may be waiting for it
