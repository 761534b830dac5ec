"""A running roost as the other end of ``AI``: the wire protocol over httpx."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import httpx

from runtime.config import Usage
from runtime.pool import ServedBy
from runtime.tasks.text_generation import Event, Finished, TextDelta
from worker.answer import Answer
from worker.errors import AiError
from worker.streams import CONTENT_TYPE, parse_frames

_PATIENCE = httpx.Timeout(10, read=None)  # seconds; a long prompt on a CPU takes its time


class RemoteAI:
    """The doors of a roost at ``url``. ``token``: what it was started with, if anything."""

    def __init__(self, url: str, token: str | None = None) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._url = url.rstrip("/")
        self._client = httpx.AsyncClient(base_url=self._url, timeout=_PATIENCE, headers=headers)

    async def generate(self, model: str, inputs: Mapping[str, Any], options: Mapping[str, Any] | None) -> Answer:
        """Send the request; an answer once its headers are here."""
        body = {"inputs": dict(inputs), "options": dict(options or {})}
        request = self._client.build_request(
            "POST", "/run", params={"version": "3"}, json=body, headers={"cf-consn-model-id": model}
        )
        response = await self._send(request)
        if response.is_error:
            await response.aread()
            raise _error(response)
        streaming = response.headers.get("content-type") == CONTENT_TYPE
        return Answer(
            _streamed(response) if streaming else _whole(response),
            streaming=streaming,
            request_id=response.headers.get("cf-ai-req-id", ""),
            served_by=_served_by(model, response.headers),
        )

    async def models(self, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The catalogue's entries that ``params`` admit."""
        request = self._client.build_request("GET", "/ai-api/models/search", params=dict(params))
        response = await self._send(request)
        await response.aread()
        if response.is_error:
            raise _error(response)
        found: list[dict[str, Any]] = response.json()["result"]
        return found

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            raise AiError(5906, 503, f"no roost answers at {self._url} ({error})", lead="roost") from error


async def _streamed(response: httpx.Response) -> AsyncGenerator[Event]:
    try:
        async for event in parse_frames(response.aiter_lines()):
            yield event
    finally:
        await response.aclose()


async def _whole(response: httpx.Response) -> AsyncGenerator[Event]:
    try:
        await response.aread()
    finally:
        await response.aclose()
    result = response.json()
    usage = result["usage"]
    yield TextDelta(result["response"])
    yield Finished(None, Usage(usage["prompt_tokens"], usage["completion_tokens"]))


def _error(response: httpx.Response) -> AiError:
    try:
        body = response.json()
        code, description = int(body["internalCode"]), str(body["description"])
    except (ValueError, KeyError, TypeError):
        return AiError(response.status_code, response.status_code, response.text[:200] or "no body", lead="roost")
    lead = str(body.get("message", "")).removeprefix("AiError: ").partition(": ")[0] or "Ai"
    return AiError(code, response.status_code, description, lead=lead, request_id=str(body.get("requestId", "")))


def _served_by(model: str, headers: httpx.Headers) -> ServedBy | None:
    weights, _, precision = headers.get("x-roost-weights", "").rpartition(" ")
    if not weights:
        return None
    return ServedBy(model, weights, precision, headers.get("x-roost-device", ""), "x-roost-stand-in" in headers)
