"""ReadableStream, WritableStream, TransformStream and what is made of them."""

from __future__ import annotations

import asyncio
import codecs
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from .js_base import JsArray, JsObject, JsProxy, option, type_error
from .js_buffers import Uint8Array, bytes_of
from .js_convert import PyProxy, to_js
from .js_promises import Promise, as_exception, promised, settled

_END = object()


class ReadableStream(JsProxy):
    """``ReadableStream.new(source)``. ``source``: ``start(controller)``, ``pull(controller)``, ``cancel(reason)``."""

    def __init__(self, source: Any = None, strategy: Any = None) -> None:
        self._source = source
        self._chunks: deque[Any] = deque()
        self._ended = False
        self._error: BaseException | None = None
        self._change = asyncio.Event()
        self.locked = False
        self.length: int | None = None  # its bytes, where they are known beforehand: R2 wants to know
        self._controller = ReadableStreamDefaultController(self)
        self._starting: Promise | None = None
        if (start := option(source, "start")) is not None:
            self._starting = Promise(self._started(start(self._controller)))

    @staticmethod
    def from_(values: Any) -> ReadableStream:
        """Of anything that can be iterated, asynchronously or not."""
        return ReadableStream(JsObject(_source_of(values)))

    async def _started(self, work: Any) -> None:
        try:
            await settled(work)
        except Exception as error:
            self.fail(error)

    async def next_chunk(self) -> tuple[bool, Any]:
        """Whether the stream has ended, else its next chunk."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._ended:
                return True, None
            self._change.clear()
            await self._pull()
            if not (self._chunks or self._ended or self._error):
                await self._change.wait()
        chunk = self._chunks.popleft()
        self._change.set()
        return False, chunk

    async def _pull(self) -> None:
        pull = option(self._source, "pull")
        if pull is None:
            return
        if self._starting is not None:
            await self._starting
        try:
            await settled(pull(self._controller))
        except Exception as error:
            self.fail(error)

    def put(self, chunk: Any) -> None:
        """Add a chunk."""
        if self._ended:
            raise type_error("the stream is closed")
        self._chunks.append(chunk)
        self._change.set()

    def end(self) -> None:
        """There are no more chunks."""
        self._ended = True
        self._change.set()

    def fail(self, reason: Any) -> None:
        """Whoever reads gets an error."""
        self._error = as_exception(reason)
        self._chunks.clear()
        self._change.set()

    async def taken(self) -> None:
        """Return once a reader has taken every chunk; raises if nobody will."""
        while self._chunks:
            self._change.clear()
            await self._change.wait()
        if self._error is not None:
            raise self._error

    def getReader(self, options: Any = None) -> ReadableStreamDefaultReader:
        if self.locked:
            raise type_error("This ReadableStream is currently locked to a reader.")
        self.locked = True
        return ReadableStreamDefaultReader(self)

    @promised
    async def cancel(self, reason: Any = None) -> None:
        if self._ended and not self._chunks:
            return
        self._ended = True
        self._chunks.clear()
        self._change.set()
        if (cancel := option(self._source, "cancel")) is not None:
            await settled(cancel(reason))

    def tee(self) -> JsArray:
        branches = [ReadableStream(), ReadableStream()]

        async def split() -> None:
            try:
                async for chunk in self:
                    for branch in branches:
                        branch.put(chunk)
            except Exception as error:
                for branch in branches:
                    branch.fail(error)
            for branch in branches:
                branch.end()

        splitting = Promise(split())
        for branch in branches:
            branch._starting = splitting  # which is kept alive by it
            branch.length = self.length
        return JsArray(branches)

    def pipeThrough(self, pair: Any, options: Any = None) -> Any:
        self._piping = self.pipeTo(pair.writable)
        return pair.readable

    @promised
    async def pipeTo(self, target: Any, options: Any = None) -> None:
        writer = target.getWriter()
        try:
            async for chunk in self:
                await writer.write(chunk)
        except Exception as error:
            await writer.abort(error)
            raise
        await writer.close()

    async def _iterate(self) -> AsyncGenerator[Any]:
        if self.locked:
            raise type_error("This ReadableStream is currently locked to a reader.")
        self.locked = True
        whole = False
        try:
            while not (ended := await self.next_chunk())[0]:
                yield ended[1]
            whole = True
        finally:
            self.locked = False
            if not whole and self._error is None:
                await self.cancel()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._iterate()

    values = __aiter__


def stream_of(pieces: AsyncGenerator[bytes], length: int | None = None) -> ReadableStream:
    """A stream of Uint8Arrays of ``pieces``, ``length`` bytes if known; when it is cancelled they are closed."""

    async def pull(controller: Any) -> None:
        try:
            piece = await anext(pieces)
        except StopAsyncIteration:
            controller.close()
        else:
            controller.enqueue(Uint8Array(piece))

    made = ReadableStream(JsObject({"pull": pull, "cancel": lambda _: pieces.aclose()}))
    made.length = length
    return made


def _source_of(values: Any) -> dict[str, Any]:
    values = values.unwrap() if isinstance(values, PyProxy) else values
    if not hasattr(values, "__aiter__"):
        rest = iter(values)
        return {"pull": lambda controller: _give(controller, next(rest, _END))}
    pieces = aiter(values)

    async def pull(controller: Any) -> None:
        _give(controller, await anext(pieces, _END))

    async def cancel(_: Any) -> None:
        if (close := getattr(pieces, "aclose", None)) is not None:
            await close()

    return {"pull": pull, "cancel": cancel}


def _give(controller: Any, piece: Any) -> None:
    if piece is _END:
        controller.close()
    else:
        controller.enqueue(to_js(piece))


class ReadableStreamDefaultController(JsProxy):
    """What a source writes to."""

    def __init__(self, stream: ReadableStream) -> None:
        self._stream = stream

    @property
    def desiredSize(self) -> int:
        return 1 - len(self._stream._chunks)

    def enqueue(self, chunk: Any = None) -> None:
        self._stream.put(chunk)

    def close(self) -> None:
        self._stream.end()

    def error(self, reason: Any = None) -> None:
        self._stream.fail(reason)


class ReadableStreamDefaultReader(JsProxy):
    """One reader of a stream."""

    def __init__(self, stream: ReadableStream) -> None:
        self._stream = stream

    @promised
    async def read(self) -> JsObject:
        done, chunk = await self._stream.next_chunk()
        return JsObject({"done": done, "value": chunk})

    def cancel(self, reason: Any = None) -> Promise:
        return self._stream.cancel(reason)

    def releaseLock(self) -> None:
        self._stream.locked = False


class WritableStream(JsProxy):
    """``WritableStream.new(sink)``. ``sink``: ``start``, ``write(chunk, controller)``, ``close``, ``abort``."""

    def __init__(self, sink: Any = None, strategy: Any = None) -> None:
        self._sink = sink
        self.locked = False

    def getWriter(self) -> WritableStreamDefaultWriter:
        if self.locked:
            raise type_error("This WritableStream is currently locked to a writer.")
        self.locked = True
        return WritableStreamDefaultWriter(self)

    async def _do(self, name: str, *args: Any) -> None:
        if (function := option(self._sink, name)) is not None:
            await settled(function(*args))


class WritableStreamDefaultWriter(JsProxy):
    """One writer of a stream."""

    def __init__(self, stream: WritableStream) -> None:
        self._stream = stream

    @property
    def ready(self) -> Promise:
        return Promise.resolve()

    @promised
    async def write(self, chunk: Any = None) -> None:
        await self._stream._do("write", chunk, None)

    @promised
    async def close(self) -> None:
        await self._stream._do("close")

    @promised
    async def abort(self, reason: Any = None) -> None:
        await self._stream._do("abort", reason)

    def releaseLock(self) -> None:
        self._stream.locked = False


class TransformStream(JsProxy):
    """``TransformStream.new(transformer)``; without one, what is written is read. Writing waits for the reader."""

    def __init__(self, transformer: Any = None, *strategies: Any) -> None:
        self._transformer = transformer
        self.readable = ReadableStream(JsObject({"cancel": self._left}))
        self._controller = ReadableStreamDefaultController(self.readable)
        sink = {"write": self._write, "close": self._close, "abort": self._abort}
        self.writable = WritableStream(JsObject(sink))

    async def _write(self, chunk: Any, _: Any) -> None:
        if self.readable._error is not None:
            raise self.readable._error
        if (transform := option(self._transformer, "transform")) is None:
            self._controller.enqueue(chunk)
        else:
            await settled(transform(chunk, self._controller))
        await self.readable.taken()

    async def _close(self) -> None:
        if (flush := option(self._transformer, "flush")) is not None:
            await settled(flush(self._controller))
        self.readable.end()

    def _abort(self, reason: Any) -> None:
        self.readable.fail(reason)

    def _left(self, _: Any) -> None:
        self.readable.fail(type_error("the stream's reader has left"))


class IdentityTransformStream(TransformStream):
    """A TransformStream without a transformer."""


class FixedLengthStream(TransformStream):
    """The same, for a body whose length is known; R2 alone checks it."""

    def __init__(self, length: int = 0) -> None:
        super().__init__()
        self.readable.length = int(length)


class TextDecoderStream(TransformStream):
    """Bytes to text."""

    def __init__(self, label: str = "utf-8", options: Any = None) -> None:
        decoder = codecs.getincrementaldecoder(label)("replace")

        def transform(chunk: Any, controller: Any) -> None:
            if text := decoder.decode(bytes_of(chunk)):
                controller.enqueue(text)

        super().__init__(JsObject({"transform": transform}))


class TextEncoderStream(TransformStream):
    """Text to bytes."""

    def __init__(self) -> None:
        encode = {"transform": lambda chunk, controller: controller.enqueue(Uint8Array(str(chunk).encode()))}
        super().__init__(JsObject(encode))
