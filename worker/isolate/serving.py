"""An isolate at work: answers what roost sends on the isolate's Unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from .context import Context, background_ended
from .entry import Entry
from .exchanges import Exchanges
from .faults import told
from .frames import Closed, Connection
from .host import javascript_value
from .js_convert import to_js
from .js_headers import length_in
from .js_messages import NULL_BODY, Request, Response
from .js_streams import stream_of
from .values import decode


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
        ctx = Context()
        body = connection.body()
        try:
            if head["op"] == "fetch":
                await self._fetch(connection, head, body, ctx)
            elif head["op"] == "scheduled":
                await self._entry.scheduled(head["cron"], head["at"], ctx)
                await connection.send({})
            else:
                args = list(decode(head["args"], javascript_value))
                await connection.send({"value": await self._entry.call(head["method"], args, ctx)})
        except (Closed, asyncio.CancelledError):
            raise
        except BaseException as error:
            connection.fail(told(error) | {"passes_through": ctx.passes_through})
        async for _ in body:
            pass

    async def _fetch(
        self, connection: Connection, head: dict[str, Any], body: AsyncGenerator[bytes], ctx: Context
    ) -> None:
        with_body = head["method"] not in ("GET", "HEAD")
        if not with_body:
            await anext(body, None)
        stream = stream_of(body, length_in(head["headers"])) if with_body else None
        init = {"method": head["method"], "headers": head["headers"], "body": stream}
        request = Request(head["url"], init | {"cf": to_js(head["cf"], objects=True), "redirect": "manual"})
        try:
            await self._respond(connection, await self._entry.fetch(request, ctx))
        except asyncio.CancelledError:
            request.signal.abort_now()
            raise

    async def _respond(self, connection: Connection, response: Response) -> None:
        sent = response.sent()
        headers = list(response.headers.pairs)
        if not isinstance(sent, AsyncGenerator) and not response.headers.has("content-length"):
            headers += [("content-length", str(len(sent or b"")))] if response.status not in NULL_BODY else []
        answer = {"status": response.status, "statusText": response.statusText, "headers": headers}
        try:
            await connection.send(answer, sent)
        finally:
            if isinstance(sent, AsyncGenerator):
                await sent.aclose()
