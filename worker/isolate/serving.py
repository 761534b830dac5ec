"""An isolate at work: answers what roost sends on the isolate's Unix socket."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncGenerator
from typing import Any

from . import rpc
from .context import Context, background_ended
from .entry import Entry
from .exchanges import Exchanges
from .faults import NoHandler, told
from .frames import HEAD, Closed, Connection
from .js_base import type_error
from .js_convert import to_js
from .js_headers import length_in
from .js_messages import NULL_BODY, Request, Response, asks_for_socket
from .js_queues import MessageBatch
from .js_streams import stream_of
from .sockets import relay
from .uploads import Upload


class Serving:
    """The exchanges of one isolate with roost."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._exchanges = Exchanges(self._answer)
        self._retired = asyncio.Event()
        self.connection = self._exchanges.connection

    def retire(self) -> None:
        """Take no more than what has begun."""
        self._retired.set()

    async def until_retired(self) -> None:
        """Return once retired, and whatever was going on has ended."""
        await self._retired.wait()
        while self._exchanges.busy:
            await asyncio.sleep(0.01)
        await background_ended()

    async def _answer(self, connection: Connection, head: dict[str, Any]) -> None:
        ctx = Context(head.get("props"))
        body = Upload(connection, _late)
        try:
            if head["op"] == "fetch":
                await self._fetch(connection, head, body, ctx)
            elif head["op"] == "scheduled":
                await self._entry.scheduled(head["cron"], head["at"], ctx)
                await connection.send({})
            elif head["op"] == "queue":
                await connection.send(await self._queue(MessageBatch(head["queue"], head["messages"]), ctx))
            else:
                call = functools.partial(self._entry.call, head["method"], ctx, head["entrypoint"])
                await rpc.answer(connection, head, body, call)
        except Closed:
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _called_off():
                raise  # whoever asked has left, or the isolate ends; any other is the Worker's own
            connection.fail(told(error) | {"passes_through": ctx.passes_through})
        await body.rest()

    async def _fetch(
        self, connection: Connection, head: dict[str, Any], body: AsyncGenerator[bytes], ctx: Context
    ) -> None:
        with_body = head["method"] not in ("GET", "HEAD")
        stream = stream_of(body, length_in(head["headers"])) if with_body else None
        init = {"method": head["method"], "headers": head["headers"], "body": stream}
        request = Request(head["url"], init | {"cf": to_js(head["cf"], objects=True), "redirect": "manual"})
        try:
            response = await self._entry.fetch(request, ctx, head.get("entrypoint"))
            if response.webSocket is None:
                await self._respond(connection, response, head["method"])
            else:
                await anext(body, None)  # the request's end, before which no message stands
                await self._open(connection, request, response)
        except asyncio.CancelledError:
            request.signal.abort_now()
            raise

    async def _queue(self, batch: MessageBatch, ctx: Context) -> dict[str, Any]:
        """What the handler decided, which holds even if it raises afterwards."""
        try:
            await self._entry.queue(batch, ctx)
        except Exception as error:
            fault = told(error)
            if fault["fatal"]:
                raise
            return batch.decided | {"fault": fault}
        return batch.decided

    async def _respond(self, connection: Connection, response: Response, method: str) -> None:
        sent = response.sent()
        headers = list(response.headers.pairs)
        if method != "HEAD" or not response.headers.has("content-length"):  # else it is what GET would have
            headers = [pair for pair in headers if pair[0] != "content-length"]
            if not isinstance(sent, AsyncGenerator) and response.status not in NULL_BODY:
                headers.append(("content-length", str(len(sent or b""))))
        answer = {"status": response.status, "statusText": response.statusText, "headers": headers}
        try:
            await connection.send(answer, sent)
        finally:
            if isinstance(sent, AsyncGenerator):
                await sent.aclose()

    async def _open(self, connection: Connection, request: Request, response: Response) -> None:
        """Answer with a WebSocket, and carry its messages until it is closed."""
        if not asks_for_socket(request.headers):
            raise NoHandler("the Worker returned a WebSocket to a request without the header Upgrade: websocket")
        far = response.webSocket.hand_over()
        connection.live = True
        answer = {"status": 101, "statusText": "", "headers": list(response.headers.pairs)}
        connection.write((HEAD, json.dumps(answer).encode()))
        await relay(far, connection)
        connection.finish()


def _called_off() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _late() -> Exception:
    return type_error("Can't read from request stream after response has been sent.")
