"""What passed through an AI Gateway: an entry per request, the newest thousand, in memory. Knows no route."""

from __future__ import annotations

import datetime
import time
import uuid
from collections import OrderedDict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

_KEPT = 1000
_PATCHABLE = ("score", "feedback", "metadata")


class GatewayLog:
    """The entries by id, in the shape that ``env.AI.gateway(id).getLog()`` returns."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, tuple[str, dict[str, Any]]] = OrderedDict()

    def follow(self, request: Request, response: Response, gateway: str, metadata: Any = None) -> Response:
        """``response``, named in the log, which learns its size, duration and tokens as it is sent."""
        entry = _entry(request, response, metadata)
        self._entries[entry["id"]] = gateway, entry
        while len(self._entries) > _KEPT:
            self._entries.popitem(last=False)
        response.headers["cf-aig-log-id"] = entry["id"]
        return _Followed(request, response, entry)

    def find(self, gateway: str, entry_id: str) -> dict[str, Any] | None:
        """The entry, or ``None`` if that gateway has none of the id."""
        owner, entry = self._entries.get(entry_id, ("", None))
        return entry if owner == gateway else None

    def patch(self, entry: dict[str, Any], changes: dict[str, Any]) -> None:
        """Take over what may be set from outside: score, feedback, metadata."""
        entry.update({name: changes[name] for name in _PATCHABLE if name in changes})


def _entry(request: Request, response: Response, metadata: Any) -> dict[str, Any]:
    asked = getattr(request.state, "asked", ("", None, None))
    return {
        "id": str(uuid.uuid4()),
        "provider": "workers-ai",
        "model": asked[0],
        "path": asked[0],
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "status_code": response.status_code,
        "success": response.status_code < 400,
        "cached": False,
        "duration": 0,
        "request_content_type": request.headers.get("content-type", ""),
        "response_content_type": response.headers.get("content-type", ""),
        "response_size": 0,
        "tokens_in": 0,
        "tokens_out": 0,
        "metadata": metadata,
    }


class _Followed(Response):
    """A response that completes its entry while it is sent."""

    def __init__(self, request: Request, response: Response, entry: dict[str, Any]) -> None:
        self._request, self._response, self._entry = request, response, entry
        self._started = time.perf_counter()
        self.raw_headers, self.status_code = response.raw_headers, response.status_code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watch(message: Message) -> None:
            self._entry["response_size"] += len(message.get("body", b""))
            await send(message)

        try:
            await self._response(scope, receive, watch)
        finally:
            self._complete()

    def _complete(self) -> None:
        self._entry["duration"] = round((time.perf_counter() - self._started) * 1000)
        answer = getattr(self._request.state, "answer", None)
        if answer is not None and answer.usage is not None:
            self._entry["tokens_in"] = answer.usage.prompt_tokens
            self._entry["tokens_out"] = answer.usage.completion_tokens
