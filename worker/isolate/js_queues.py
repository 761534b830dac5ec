"""Queues: ``env.QUEUE``, and the batch that a ``queue`` handler is given, as workerd's ``api/queue`` has them."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator
from typing import Any

from .host import Host
from .js_base import JsArray, JsObject, JsProxy, jsnull, option, type_error
from .js_buffers import ArrayBuffer, JsBuffer
from .js_convert import PyProxy
from .js_dates import Date
from .js_json import parse, stringify
from .js_promises import promised
from .rpc_values import packed, unpacked


class WorkerQueue(JsProxy):
    """The producer of a queue."""

    def __init__(self, host: Host, service: str) -> None:
        self._host, self._service = host, service

    @promised
    async def send(self, body: Any = None, options: Any = None) -> None:
        await self._host.call(self._service, "send", [_message(body, options)])

    @promised
    async def sendBatch(self, messages: Any = None, options: Any = None) -> None:
        found = list(messages) if isinstance(messages, JsArray) else None
        if found is None or not all(isinstance(each, JsObject) for each in found):
            raise type_error("sendBatch() takes a list of objects with a body")
        if not found:
            raise type_error("sendBatch() requires at least one message")
        sent = [_message(getattr(each, "body", None), each) for each in found]
        await self._host.call(self._service, "sendBatch", [sent, option(options, "delaySeconds")])


class Message(JsProxy):
    """A message that was delivered. Its first decision counts, and none after the batch's."""

    def __init__(self, batch: MessageBatch, told: dict[str, Any]) -> None:
        self._batch = batch
        self.id, self.attempts = told["id"], told["attempts"]
        self.timestamp = Date(told["timestamp"])
        self.body = _body(told["kind"], base64.b64decode(told["body"]))

    def ack(self) -> None:
        self._batch.decide({"retry": False}, self.id)

    def retry(self, options: Any = None, **named: Any) -> None:
        self._batch.decide(_again(options, named), self.id)


class MessageBatch(JsProxy):
    """What a ``queue`` handler is given. ``decided``: what it said, as roost's ``worker/queues.py`` reads it."""

    def __init__(self, queue: str, messages: list[dict[str, Any]]) -> None:
        self.queue = queue
        self.messages = JsArray([Message(self, each) for each in messages])
        self.decided: dict[str, Any] = {"messages": {}, "all": None}

    def ackAll(self) -> None:
        self.decide({"retry": False})

    def retryAll(self, options: Any = None, **named: Any) -> None:
        self.decide(_again(options, named))

    def decide(self, decision: dict[str, Any], message: str | None = None) -> None:
        """Note a decision about one message or all, unless there is one before it."""
        if self.decided["all"] is not None:
            return
        if message is None:
            self.decided["all"] = decision
        else:
            self.decided["messages"].setdefault(message, decision)


def _again(options: Any, named: dict[str, Any]) -> dict[str, Any]:
    given = options if isinstance(options, JsObject) else JsObject(named)
    delay = option(given, "delaySeconds")
    if delay is not None and (isinstance(delay, bool) or not isinstance(delay, int | float) or delay < 0):
        raise type_error(f"delaySeconds is a number of seconds, and not {delay!r}")
    return {"retry": True, "delay": delay}


def _message(body: Any, options: Any) -> dict[str, Any]:
    kind = option(options, "contentType", "json")
    return {"kind": kind, "body": _bytes(kind, body), "delay": option(options, "delaySeconds")}


def _bytes(kind: str, body: Any) -> bytes:
    if body is None:
        raise type_error("Message body cannot be undefined")
    match kind:
        case "text":
            if not isinstance(body, str):
                raise _wrong(kind, "string", body)
            return body.encode("utf-8", "surrogatepass")
        case "bytes":
            if isinstance(body, bytes):
                return body
            if not isinstance(body, JsBuffer):
                raise _wrong(kind, "ArrayBufferView", body)
            return body.to_bytes()
        case "json":
            return stringify(body).encode("utf-8", "surrogatepass")
        case "v8":
            streams: list[AsyncGenerator[bytes]] = []
            found = packed(body, streams)
            if streams:
                raise type_error("a stream can't be put into a queue: read it first")
            return json.dumps(found).encode()
    raise type_error(f"Unsupported queue message content type: {kind}")


def _wrong(kind: str, wanted: str, body: Any) -> Exception:
    return type_error(f'Content Type "{kind}" requires a value of type {wanted}, but received: {_typeof(body)}')


def _typeof(value: Any) -> str:
    if value is jsnull or isinstance(value, JsProxy | PyProxy):
        return "object"
    words = {str: "string", bool: "boolean", int: "number", float: "number"}
    return words.get(type(value), "object")


def _body(kind: str, data: bytes) -> Any:
    match kind:
        case "text":
            return data.decode("utf-8", "surrogatepass")
        case "bytes":
            return ArrayBuffer(data)
        case "json":
            return parse(data)
    return unpacked(json.loads(data), _no_stream)


def _no_stream(number: int) -> AsyncGenerator[bytes]:
    raise AssertionError("no stream is ever put into a queue")
