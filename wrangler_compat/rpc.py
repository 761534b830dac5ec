"""JavaScript RPC on the AI binding: refused call by call, in words that reach the Worker.

miniflare carries RPC as Cap'n Web (github.com/cloudflare/capnweb, ``protocol.md``): arrays of JSON over a WebSocket.
Its client asks for each result with ``["pull", id]``; whatever was called, the reply is ``["reject", id, error]``.
miniflare 4 opens a socket with every call of the binding, most of which then go over HTTP, and never closes it; while
it is open the call's cancellation doesn't get through. So where nobody calls, ``["abort", error]`` has it closed.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from worker.errors import AiError, NotEmulated

_SILENCE = 0.25  # seconds; who opens a socket to call something does so at once


def rpc_refusal() -> str:
    """What every call over RPC comes to, in the form of the binding's other errors."""
    error = AiError.of(
        NotEmulated(
            "this call goes over JavaScript RPC, which roost doesn't speak: "
            "aiSearch(), websearch() and gateway(id, {beta: true}) need Cloudflare's own"
        )
    )
    return f"{error.code}: {error.description}"


async def refuse_calls(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI: a session of Cap'n Web in which every call fails."""
    socket = WebSocket(scope, receive, send)
    refused = ["error", "Error", rpc_refusal()]
    await socket.accept()
    with suppress(WebSocketDisconnect):
        while (text := await _heard(socket)) is not None:
            asked = _pulled(text)
            if asked is not None:
                await socket.send_text(json.dumps(["reject", asked, refused]))
        await socket.send_text(json.dumps(["abort", refused]))
        while await _heard(socket) is not None:
            pass
        await socket.close()


async def _heard(socket: WebSocket) -> str | None:
    """The next message, or ``None`` after a silence."""
    try:
        return await asyncio.wait_for(socket.receive_text(), _SILENCE)
    except TimeoutError:
        return None


def _pulled(text: str) -> int | None:
    """The id of the result that a message asks for."""
    try:
        message: Any = json.loads(text)
    except ValueError:
        return None
    match message:
        case ["pull", int(asked)]:
            return asked
    return None
