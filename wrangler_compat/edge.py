"""What Cloudflare's edge says of a request that reaches no door: a wrong path or method, or no right to knock.

Its envelope bears no request id. On the routes of OpenAI's API there is an ``error`` beside it, which the newest of
OpenAI's SDKs show and nothing else.
"""

from __future__ import annotations

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response

from worker.errors import (
    AiError,
    BadAuthorization,
    BadToken,
    NoApiRoute,
    NoCredentials,
    NoRoute,
    Unauthorized,
    WrongMethod,
)
from worker.forms.openai import openai_error
from wrangler_compat.transports import CARRIED, WIRE_HOST

_API = "/client/v4/"
_OPENAI = "/ai/v1/"


async def no_route(request: Request, refusal: Exception) -> Response:
    """Of a wrong method, of a wrong path within the API, and of one elsewhere."""
    path = request.scope.get(CARRIED, request.url.path)
    if isinstance(refusal, HTTPException) and refusal.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        error = AiError.of(WrongMethod(f"{request.method} not supported for requested URI."))
    elif path.startswith(_API):
        error = AiError.of(NoApiRoute(f"Could not route to {path}, perhaps your object identifier is invalid?"))
    else:
        error = AiError.of(NoRoute(path))
    to_the_wire = CARRIED in request.scope or request.url.hostname == WIRE_HOST  # elsewhere the edge gives no id
    return _told(path, error, {"cf-ai-req-id": error.request_id} if to_the_wire else {})


def refused(connection: HTTPConnection, fault: Exception) -> Response:
    """Of a request that the guard turns away."""
    path = connection.url.path
    if isinstance(fault, Unauthorized) and path.startswith(_API):
        fault = _unauthorized(connection, path, fault)
    return _told(path, AiError.of(fault), {})


def _unauthorized(connection: HTTPConnection, path: str, fault: Unauthorized) -> Exception:
    headers = connection.headers
    if not any(name in headers for name in ("authorization", "x-auth-key", "x-auth-email")):
        return NoCredentials("none")
    scheme, _, token = headers.get("authorization", "Bearer any").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        return BadAuthorization(scheme)
    return BadToken("unknown") if path.endswith("/tokens/verify") else fault


def _told(path: str, error: AiError, headers: dict[str, str]) -> Response:
    body = error.to_edge_envelope()
    if path.startswith(_API) and _OPENAI in path:
        body |= openai_error(error, error.description)
    return JSONResponse(body, status_code=error.status, headers=headers)
