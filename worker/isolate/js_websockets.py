"""WebSocket and WebSocketPair: two ends, each of which a Worker accepts, or hands to a connection."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from .frames import BYTES, CLOSE, TEXT, Closed, Connection
from .js_base import JsException, JsObject, JsType, null, option, type_error
from .js_blobs import Blob
from .js_buffers import ArrayBuffer, JsBuffer, bytes_of
from .js_convert import PyProxy
from .js_events import CloseEvent, ErrorEvent, Event, EventTarget, MessageEvent
from .sockets import ABNORMAL, INTERNAL_ERROR, MAX_WAITING, NO_STATUS, closing, relay, said

_LONGEST_REASON = 123  # bytes of UTF-8, by RFC 6455
_KEPT_BACK = 1 << 18  # bytes that wait for a connection, before whoever fills it is held back
Dial: TypeAlias = Callable[[str, str], Awaitable[tuple[str, Connection]]]
"""Opens an address with protocols: the protocol that was chosen, and the connection; raises :class:`JsException`."""
_FORBIDDEN = (1004, NO_STATUS, ABNORMAL, 1015)


class _Binary:
    type = "arraybuffer"


def binary_is_blob() -> None:
    """Give binary messages to Workers as Blobs, as the flag ``websocket_standard_binary_type`` has it."""
    _Binary.type = "blob"


class WebSocket(EventTarget):
    """One end of a pair. What is sent here arrives at the other."""

    CONNECTING, OPEN, CLOSING, CLOSED = range(4)
    READY_STATE_CONNECTING, READY_STATE_OPEN, READY_STATE_CLOSING, READY_STATE_CLOSED = range(4)
    url: Any = None
    protocol, extensions = "", ""

    def __init__(self) -> None:
        super().__init__()
        self.binaryType = _Binary.type
        self.peer: WebSocket = self
        self._accepted = self._handed = self._half_open = False
        self._sent_close = self._got_close = False
        self._inbox: deque[tuple[int, bytes]] = deque()
        self._waiting = 0
        self._change = asyncio.Event()
        self._error: BaseException | None = None

    @property
    def readyState(self) -> int:
        if self._sent_close and self._got_close:
            return self.CLOSED
        return self.CLOSING if self._sent_close or self._got_close else self.OPEN

    @property
    def bufferedAmount(self) -> int:
        return self.peer._waiting

    def accept(self, options: Any = None, **more: Any) -> None:
        if self._handed:
            raise type_error("accept(): this WebSocket was used in a Response already.")
        self._accepted = True
        self._half_open = bool(option(options or more, "allowHalfOpen", default=False))
        self._dispatch_soon()

    def send(self, data: Any) -> None:
        self._must_be_accepted("send")
        if self._sent_close:
            raise type_error("Can't call WebSocket send() after close().")
        if not self._got_close:
            self.peer.deliver(*_frame(data))

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        self._must_be_accepted("close")
        if code is not None and (not 1000 <= code < 5000 or code in _FORBIDDEN):
            raise type_error(f"Invalid WebSocket close code: {code}.")
        if reason and code is None:
            raise type_error("A reason for a WebSocket's close needs a code, too.")
        if len((reason or "").encode()) > _LONGEST_REASON:
            raise JsException(f"A close reason has at most {_LONGEST_REASON} bytes of UTF-8.", "SyntaxError")
        self._close(*closing(NO_STATUS if code is None else int(code), reason or ""))

    def hand_over(self) -> Far:
        """This end for a connection; nobody else has it from now on."""
        if self._accepted:
            raise type_error("Can't return a WebSocket in a Response after calling accept().")
        if self._handed:
            raise type_error("Can't return a WebSocket that was used in a Response already.")
        self._handed = True
        return Far(self)

    def deliver(self, kind: int, payload: bytes) -> None:
        """Take a frame from the other end; raises if too many wait here."""
        if self._waiting + len(payload) > MAX_WAITING:
            raise JsException(f"more than {MAX_WAITING} bytes wait to be read on this WebSocket")
        self._inbox.append((kind, payload))
        self._waiting += len(payload)
        self._change.set()
        self._dispatch_soon()

    async def next(self) -> tuple[int, bytes]:
        """The next frame that the other end sent, for a connection."""
        while not self._inbox:
            if self._error is not None:
                raise self._error
            self._change.clear()
            await self._change.wait()
        return self._take()

    async def room(self) -> None:
        """Return once what waits here may grow."""
        while self._handed and self._waiting > _KEPT_BACK and not self._got_close:
            self._change.clear()
            await self._change.wait()

    def _take(self) -> tuple[int, bytes]:
        kind, payload = self._inbox.popleft()
        self._waiting -= len(payload)
        self._got_close |= kind == CLOSE
        self._change.set()
        return kind, payload

    def _close(self, kind: int, payload: bytes) -> None:
        if not self._sent_close:
            self._sent_close = True
            self.peer.deliver(kind, payload)

    def _must_be_accepted(self, what: str) -> None:
        if not self._accepted:
            raise type_error(f"You must call accept() on this WebSocket before {what}().")

    def _dispatch_soon(self) -> None:
        if self._accepted and self._inbox:
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        while self._inbox:
            kind, payload = self._take()
            if kind == CLOSE:
                told = said(payload)
                if not self._half_open:
                    self._close(kind, payload)
                init = {"code": told["code"], "reason": told["reason"], "wasClean": told["clean"]}
                self.dispatchEvent(CloseEvent("close", init))
            else:
                self.dispatchEvent(MessageEvent("message", {"data": self._received(kind, payload)}))

    def _received(self, kind: int, payload: bytes) -> Any:
        if kind == TEXT:
            return payload.decode()
        return Blob([payload]) if self.binaryType == "blob" else ArrayBuffer(payload)

    def _broken(self, error: BaseException) -> None:
        self.peer._error = error
        self.peer._change.set()


class Far:
    """An end as a connection sees it: see :class:`.sockets.Duplex`."""

    def __init__(self, end: WebSocket) -> None:
        self._end = end

    async def receive(self) -> tuple[int, bytes]:
        """What the Worker has sent at the other end."""
        return await self._end.next()

    def write(self, *frames: tuple[int, bytes]) -> None:
        """Let the other end have ``frames``."""
        for frame in frames:
            try:
                if frame[0] == CLOSE:
                    self._end._close(*frame)
                else:
                    self._end.peer.deliver(*frame)
            except JsException as error:
                raise Closed(error.message) from error

    async def drained(self) -> None:
        """Return once the other end has room."""
        await self._end.peer.room()


class WebSocketPair(JsObject):
    """``WebSocketPair.new().object_values()``: the client's end and the server's."""

    js_name = "WebSocketPair"

    def __init__(self) -> None:
        client, server = WebSocket(), WebSocket()
        client.peer, server.peer = server, client
        super().__init__({"0": client, "1": server})

    def __getitem__(self, place: int) -> WebSocket:
        found: WebSocket = self._entries[str(place)]
        return found


_relays: set[asyncio.Task[None]] = set()


def connected(connection: Connection, protocol: str) -> WebSocket:
    """The Worker's end of a WebSocket that ``connection`` leads to."""
    pair = WebSocketPair()
    pair[0].protocol = protocol
    _carry(pair[1], connection)
    return pair[0]


class Dialled(WebSocket):
    """``WebSocket.new(url, protocols)``: opened by the Worker, and accepted from the start."""

    js_name = "WebSocket"
    _dial: Dial

    def __init__(self, url: Any, protocols: Any = ()) -> None:
        super().__init__()
        self.url = str(url)
        self._opening, self._accepted = True, True
        self.peer = WebSocket()
        self.peer.peer = self
        names = [protocols] if isinstance(protocols, str) else [str(name) for name in protocols]
        self._task = asyncio.get_running_loop().create_task(self._open(", ".join(names)))

    @property
    def readyState(self) -> int:
        return self.CONNECTING if self._opening else super().readyState

    def _must_be_accepted(self, what: str) -> None:
        if self._opening:
            raise JsException(f"{what}() while the WebSocket is still connecting", "InvalidStateError")

    async def _open(self, protocols: str) -> None:
        try:
            self.protocol, connection = await self._dial(self.url, protocols)
        except JsException as error:
            self._opening, self._sent_close = False, True
            self.dispatchEvent(ErrorEvent("error", {"message": error.message, "error": error}))
            return self.deliver(*closing(ABNORMAL, "WebSocket connection failed", clean=False))
        self._opening = False
        _carry(self.peer, connection)
        self.dispatchEvent(Event("open"))


def dialling(dial: Dial) -> type[Dialled]:
    """The class WebSocket as Workers have it, which connects through ``dial``."""
    made: Any = JsType("WebSocket", (Dialled,), {"js_name": "WebSocket", "_dial": staticmethod(dial)})
    return made  # type: ignore[no-any-return]


def _carry(end: WebSocket, connection: Connection) -> None:
    leading = end.hand_over()

    async def carry() -> None:
        try:
            await relay(leading, connection)
        except Exception as error:
            leading.write(closing(INTERNAL_ERROR, str(error)[:_LONGEST_REASON]))
        finally:
            connection.finish()

    task = asyncio.get_running_loop().create_task(carry())
    _relays.add(task)
    task.add_done_callback(_relays.discard)


def _frame(data: Any) -> tuple[int, bytes]:
    if isinstance(data, PyProxy):
        data = data.unwrap()
    if isinstance(data, Blob):
        return BYTES, data.data
    if isinstance(data, JsBuffer | bytes | bytearray | memoryview):
        return BYTES, bytes_of(data)
    return TEXT, ("null" if data is null() else str(data)).encode()
