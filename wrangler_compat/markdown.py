"""Markdown Conversion over REST: files in a multipart form, their markdown in the envelope.

Shapes: developers.cloudflare.com/workers-ai/features/markdown-conversion.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runtime.errors import BadParameter
from worker import to_markdown
from worker.errors import AiError, BadBody, new_request_id
from worker.requests import parse_json, read_body, until_client_leaves
from wrangler_compat.rest import failure_response, success_envelope

_PATH = "/client/v4/accounts/{account}/ai/tomarkdown"
_MOST_FILES = 100


def markdown_door() -> list[Route]:
    """The door's two routes."""
    return [
        Route(_PATH, _convert, methods=["POST"]),
        Route(f"{_PATH}/supported", _supported, methods=["GET"]),
    ]


async def _supported(_request: Request) -> Response:
    return _enveloped(to_markdown.supported())


async def _convert(request: Request) -> Response:
    try:
        files, options = await _read(request)
        work = asyncio.to_thread(lambda: [to_markdown.convert(file, options) for file in files])
        return _enveloped(await until_client_leaves(request, work))
    except Exception as fault:
        return failure_response(AiError.of(fault))


async def _read(request: Request) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The files as the binding sends them, and the conversion's options."""
    form = await _form(request.headers, await read_body(request))
    try:
        files = [file for file in form.getlist("files") if isinstance(file, UploadFile)]
        if not files:
            raise BadParameter("/", "required properties at '/' are 'files'")
        given = form.get("conversionOptions")
        options: dict[str, Any] = parse_json(given, dict) if isinstance(given, str) and given else {}
        return [await _sent(file) for file in files], options
    finally:
        await form.close()


async def _form(headers: Headers, body: bytes) -> FormData:
    async def pieces() -> Any:
        yield body

    try:
        return await MultiPartParser(headers, pieces(), max_files=_MOST_FILES, max_fields=8).parse()
    except (MultiPartException, KeyError, ValueError) as error:  # a content type that is none, or without a boundary
        raise BadBody(f"expected a multipart form: {error}") from error


async def _sent(file: UploadFile) -> dict[str, str]:
    data = base64.b64encode(await file.read()).decode()
    return {"name": file.filename or "", "mimeType": file.content_type or "", "data": data}


def _enveloped(result: Any) -> JSONResponse:
    return JSONResponse(success_envelope(result), headers={"cf-ai-req-id": new_request_id()})
