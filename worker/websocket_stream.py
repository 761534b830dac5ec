"""hypercorn's WebSockets, with what a Worker's client may tell and may not: see :class:`WebSocketStream`."""

from __future__ import annotations

import asyncio
from typing import Any

import hypercorn.protocol.h2
import hypercorn.protocol.h11
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.ws_stream import WSStream
from wsproto.events import BytesMessage, CloseConnection, Message, TextMessage
from wsproto.frame_protocol import CloseReason

_LINGER = 10.0  # seconds for a client that was told that its message is too large to answer


class WebSocketStream(WSStream):
    """hypercorn's own says 1006 of every close that a client begins, and keeps what comes past the largest message.

    This one tells the application the client's code and reason, and drops that.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._heard: CloseConnection | None = None
        self._pieces: list[bytes | bytearray | str] = []
        self._length = 0
        self._deaf = False

    async def handle(self, event: Any) -> None:
        """See the base class; what it puts for the application bears the client's close, if there was one."""
        if isinstance(event, StreamClosed) and self._heard is not None and self.app_put and not self.closed:
            self.closed = True
            told = {"type": "websocket.disconnect", "code": int(self._heard.code), "reason": self._heard.reason}
            await self.app_put(told)
        else:
            await super().handle(event)

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            if isinstance(event, Message):
                await self._hear(event)
            elif isinstance(event, CloseConnection):
                self._heard = event
                if self.connection.state.name == "REMOTE_CLOSING":
                    await self._send_wsproto_event(event.response())
                await self.send(StreamClosed(stream_id=self.stream_id))
            elif hasattr(event, "response"):  # a ping
                await self._send_wsproto_event(event.response())

    async def _hear(self, event: Message[Any]) -> None:
        if self._deaf:
            return
        self._length += len(event.data.encode() if isinstance(event, TextMessage) else event.data)
        if self._length > self.config.websocket_max_message_size:
            self._deaf = True
            self._pieces.clear()
            await self._send_wsproto_event(CloseConnection(CloseReason.MESSAGE_TOO_BIG, "the message is too large"))
            return self.task_group.spawn(self._give_up)
        self._pieces.append(event.data)
        if not event.message_finished:
            return
        if isinstance(event, BytesMessage):
            message = {"type": "websocket.receive", "bytes": b"".join(map(bytes, self._pieces)), "text": None}  # type: ignore[arg-type]
        else:
            message = {"type": "websocket.receive", "bytes": None, "text": "".join(map(str, self._pieces))}
        self._pieces, self._length = [], 0
        assert self.app_put is not None
        await self.app_put(message)

    async def _give_up(self) -> None:
        await asyncio.sleep(_LINGER)
        if not self.closed:
            await self.send(StreamClosed(stream_id=self.stream_id))


def install() -> None:
    """Let hypercorn use it."""
    for module in (hypercorn.protocol.h11, hypercorn.protocol.h2):
        module.WSStream = WebSocketStream  # type: ignore[attr-defined]
