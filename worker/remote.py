"""A running roost as the other end of ``AI``: the wire protocol over httpx."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import httpx

from catalog import InvalidInput, UnknownModel
from catalog.shape import Shape
from runtime.config import Usage
from runtime.pool import ServedBy
from runtime.tasks.text_generation import Event, Finished, Result, TextDelta
from worker.answer import Answer
from worker.errors import AiError, NoRoost, StreamBroken
from worker.streams import CONTENT_TYPE, parse_call, parse_frames

_PATIENCE = httpx.Timeout(10, read=None)  # seconds; a long prompt on a CPU takes its time
_JSON = "application/json"
SHAPE_HEADER = "x-roost-shape"
"""Asks a roost for the native shape, whatever the card promises; in the reply, what that would have been."""
_REQUEST_ID = "cf-ai-req-id"


class RemoteAI:
    """The doors of a roost at ``url``. ``token``: what it was started with, if anything."""

    def __init__(self, url: str, token: str | None = None) -> None:
        headers = {b"authorization": f"Bearer {token}".encode()} if token else {}
        self._url = url.rstrip("/")
        self._client = httpx.AsyncClient(timeout=_PATIENCE, headers=headers)

    async def generate(self, model: str, inputs: object, options: Mapping[str, Any] | None) -> Answer:
        """Send the request; an answer once its headers are here."""
        if not model.isprintable():
            raise UnknownModel(model)  # it can't even stand in a header
        headers = {
            b"cf-consn-model-id": model.encode(),
            b"content-type": _JSON.encode(),
            SHAPE_HEADER.encode(): Shape.NATIVE.encode(),
        }
        content = _body(inputs, options)
        response = await self._send("POST", "/run?version=3", headers=headers, content=content)
        kind = response.headers.get("content-type")
        if response.is_error or kind not in (CONTENT_TYPE, _JSON):
            raise await self._fault(response)
        answer = Answer(
            _streamed(response) if kind == CONTENT_TYPE else _whole(response),
            streaming=kind == CONTENT_TYPE,
            request_id=response.headers.get(_REQUEST_ID, ""),
            served_by=_served_by(model, response.headers),
        )
        return answer.shaped(_shape(response.headers), model, inputs)

    async def models(self, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The catalogue's entries that ``params`` admit."""
        response = await self._send("GET", "/ai-api/models/search", params=dict(params))
        if response.is_error:
            raise await self._fault(response)
        await response.aread()
        found: list[dict[str, Any]] = response.json()["result"]
        return found

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _send(self, method: str, path: str, **parts: Any) -> httpx.Response:
        try:
            request = self._client.build_request(method, self._url + path, **parts)
            return await self._client.send(request, stream=True)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise NoRoost(f"no roost answers at {self._url} ({error})") from error

    async def _fault(self, response: httpx.Response) -> Exception:
        """What a refusal says: roost's own error, an edge's envelope, or that this is no roost at all."""
        try:
            await response.aread()
            body = response.json()
            if "internalCode" in body:
                return AiError.from_dict(body)
            first = body["errors"][0]
            return AiError(int(first["code"]), response.status_code, str(first["message"]))
        except (ValueError, KeyError, TypeError, IndexError, httpx.HTTPError):
            said = " ".join(response.text[:80].split()) if response.is_stream_consumed else ""
            return NoRoost(f"what answers at {self._url} is no roost ({response.status_code} {said!r})")


def _body(inputs: object, options: object) -> str:
    given = dict(inputs) if isinstance(inputs, Mapping) else inputs
    try:
        return json.dumps({"inputs": given, "options": options or {}})
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput("/", f"the inputs are not JSON: {error}") from error


async def _streamed(response: httpx.Response) -> AsyncGenerator[Event]:
    try:
        async for event in parse_frames(response.aiter_lines()):
            yield event
    except httpx.HTTPError as error:
        raise StreamBroken(f"the stream broke off before its end ({error})") from error
    finally:
        await response.aclose()


async def _whole(response: httpx.Response) -> AsyncGenerator[Event]:
    try:
        await response.aread()
        result = response.json()
        if "usage" not in result and _REQUEST_ID in response.headers:  # a roost's, and no text, which has a usage
            yield Result(dict(result))
            return
        said, counts = result["response"], Usage.from_dict(result["usage"])
        calls = [parse_call(call) for call in result.get("tool_calls", ())]
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoRoost(f"what answers at {response.url} is no roost, or broke off ({error})") from error
    finally:
        await response.aclose()
    is_json = not isinstance(said, str) and not calls
    if text := json.dumps(said, ensure_ascii=False) if is_json else said:
        yield TextDelta(text)
    for call in calls:
        yield call
    yield Finished(None, counts, json=is_json)


def _shape(headers: httpx.Headers) -> Shape:
    try:
        return Shape(headers.get(SHAPE_HEADER, Shape.NATIVE))
    except ValueError:
        return Shape.NATIVE


def _served_by(model: str, headers: httpx.Headers) -> ServedBy | None:
    weights, _, precision = headers.get("x-roost-weights", "").rpartition(" ")
    if not weights:
        return None
    return ServedBy(model, weights, precision, headers.get("x-roost-device", ""), "x-roost-stand-in" in headers)
