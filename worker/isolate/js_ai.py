"""``env.AI``: workerd's own class (src/cloudflare/internal/ai-api.ts), speaking the protocol that workerd speaks."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote, urlencode

from .host import Host
from .js_base import JsArray, JsException, JsObject, JsProxy, null, option, type_error
from .js_bindings import fetch_from
from .js_blobs import Blob
from .js_buffers import JsBuffer
from .js_convert import to_js
from .js_json import plain
from .js_messages import Response
from .js_promises import promised
from .js_streams import ReadableStream

_ORIGIN = "https://workers-binding.ai"
_NOT_SENT = ("prefix", "extraHeaders", "sessionOptions", "signal")
_JSON = {"content-type": "application/json"}


class Ai(JsProxy):
    """The AI binding. Errors bear the message and the name that roost's doors sent."""

    def __init__(self, host: Host, service: str) -> None:
        self._host, self._service = host, service
        self.aiGatewayLogId: Any = None
        self.lastRequestId: Any = None
        self.lastRequestHttpStatusCode: int | None = None
        self.lastRequestInternalStatusCode: int | None = None

    @promised
    async def fetch(self, source: Any, init: Any = None) -> Response:
        return await fetch_from(self._host, self._service, source, init)

    @promised
    async def run(self, model: str, inputs: Any, options: Any = None) -> Any:
        given = dict(options.as_object_map()) if isinstance(options, JsObject) else dict(options or {})
        sent = {key: plain(value) for key, value in given.items() if key not in _NOT_SENT and value is not None}
        session = option(given.get("sessionOptions"), "extraHeaders")
        headers = _object(session) | _object(given.get("extraHeaders"))
        prefix = given.get("prefix")
        headers |= {"cf-consn-sdk-version": "2.0.0", "cf-consn-model-id": f"{prefix}:{model}" if prefix else model}
        query, headers, body = _body(inputs, sent, headers)
        path = "ai-gateway/run" if option(sent.get("gateway"), "id") else "run"
        init = {"method": "POST", "headers": headers, "body": body, "signal": given.get("signal")}
        response = await self._send(f"/{path}?{query}version=3", init)
        if given.get("returnRawResponse"):
            return response
        if not response.ok or response.body is null():
            raise self._error(await response.text())
        if response.headers.get("content-type") == "application/json":
            return await response.json()
        return response.body

    @promised
    async def models(self, params: Any = None) -> Any:
        query = urlencode({key: _word(value) for key, value in _object(params).items()})
        return await self._result(f"/ai-api/models/search?{query}")

    @promised
    async def toMarkdown(self, files: Any, options: Any = None) -> Any:
        several = isinstance(files, JsArray)
        sent = [await _file(each) for each in (files if several else [files])]
        kept = {key: plain(value) for key, value in _object(options).items()}
        body = json.dumps({"files": sent, "options": kept})
        found = await self._result(
            "/to-everything/markdown/transformer", {"method": "POST", "headers": _JSON, "body": body}
        )
        return found if several else found[0]

    def gateway(self, gateway: str) -> AiGateway:
        return AiGateway(self, gateway)

    def autorag(self, name: str) -> Any:
        raise JsException(
            "AutoRAG is not in roost: docs/workers.md says what the binding has here", "AutoRAGInternalError"
        )

    async def _send(self, path: str, init: Any = None) -> Response:
        response = await fetch_from(self._host, self._service, _ORIGIN + path, init)
        self.lastRequestId = response.headers.get("cf-ai-req-id")
        self.aiGatewayLogId = response.headers.get("cf-aig-log-id")
        self.lastRequestHttpStatusCode = response.status
        return response

    async def _result(self, path: str, init: Any = None) -> Any:
        response = await self._send(path, init)
        body = await response.json()
        if not response.ok:
            raise JsException(body.errors[0].message, "AiInternalError")
        return body.result

    def _error(self, text: str) -> JsException:
        name = "InferenceUpstreamError"
        try:
            told = json.loads(text)
            if "internalCode" in told:
                self.lastRequestInternalStatusCode = told["internalCode"]
                return JsException(f"{told['internalCode']}: {told['description']}", told.get("name") or name)
            first = told["errors"][0]
            return JsException(f"{first['code']}: {first['message']}", name)
        except (ValueError, KeyError, TypeError, IndexError):
            return JsException(text, name)


class AiGateway(JsProxy):
    """``env.AI.gateway(id)``."""

    def __init__(self, ai: Ai, gateway: str) -> None:
        self._ai, self._gateway = ai, quote(gateway)

    @promised
    async def getUrl(self, provider: Any = None) -> Any:
        found = await self._ai._result(f"/ai-gateway/gateways/{self._gateway}/url/{provider or 'universal'}")
        return found.url

    @promised
    async def getLog(self, log: str) -> Any:
        return await self._ai._result(f"/ai-gateway/gateways/{self._gateway}/logs/{log}")

    @promised
    async def patchLog(self, log: str, changes: Any) -> None:
        init = {"method": "PATCH", "headers": _JSON, "body": json.dumps(plain(changes))}
        response = await self._ai._send(f"/ai-gateway/gateways/{self._gateway}/logs/{log}", init)
        if not response.ok:
            raise JsException(f"no log {log}", "AiGatewayLogNotFound")

    @promised
    async def run(self, requests: Any, options: Any = None) -> Response:
        several = requests if isinstance(requests, JsArray) else JsArray([requests])
        init = {"method": "POST", "headers": _JSON, "body": json.dumps(plain(several))}
        return await self._ai._send(f"/ai-gateway/universal/run/{self._gateway}", init)


def _object(value: Any) -> dict[str, Any]:
    if value is None or value is null():
        return {}
    return dict(value.as_object_map()) if isinstance(value, JsObject) else dict(value)


def _body(inputs: Any, options: dict[str, Any], headers: dict[str, Any]) -> tuple[str, dict[str, Any], Any]:
    """The query, the headers and the body of a run: JSON, or the one stream among the inputs."""
    entries = to_js(inputs).as_object_map() if isinstance(inputs, JsObject) else None
    streams = [key for key, value in (entries or {}).items() if isinstance(option(value, "body"), ReadableStream)]
    if not streams or entries is None:
        body = json.dumps({"inputs": plain(inputs), "options": options}, ensure_ascii=False)
        return "", {**headers, **_JSON}, body
    if len(streams) > 1:
        raise JsException("Multiple ReadableStreams are not supported. Found streams in keys", "AiInternalError")
    streamed = entries[streams[0]]
    kind = option(streamed, "contentType")
    if not kind:
        raise JsException("Content-Type is required with ReadableStream inputs", "AiInternalError")
    others = {key: plain(value) for key, value in entries.items() if key != streams[0]}
    query = urlencode({**{key: _word(value) for key, value in options.items()}, "userInputs": json.dumps(others)})
    return f"{query}&", {**headers, "content-type": kind}, streamed.body


def _word(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


async def _file(given: Any) -> dict[str, Any]:
    blob = option(given, "blob")
    data = blob.data if isinstance(blob, Blob) else blob.to_bytes() if isinstance(blob, JsBuffer) else None
    if data is None:
        raise type_error("toMarkdown takes files of the form {name, blob}")
    kind = getattr(blob, "type", "") or "application/octet-stream"
    return {"name": given.name, "mimeType": kind, "data": base64.b64encode(data).decode()}
