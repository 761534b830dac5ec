"""Assembles the doors over one AI, and answers for routes that don't exist."""

from __future__ import annotations

from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from worker.app import create_host
from worker.bindings import AI
from worker.errors import AiError, NoApiRoute, NoRoute, WrongMethod
from worker.guard import LOCAL_HOSTS
from worker.tracing import Tracing
from wrangler_compat.accounts import accounts_door
from wrangler_compat.finetunes import finetunes_door
from wrangler_compat.gateway import Gateway
from wrangler_compat.markdown import markdown_door
from wrangler_compat.openai import openai_door
from wrangler_compat.openapi import openapi_door
from wrangler_compat.pages import HOME, pages_door
from wrangler_compat.rest import rest_door
from wrangler_compat.transports import CARRIED, WIRE_HOST, transports
from wrangler_compat.wire import wire_door

_API = "/client/v4/"


def create_app(
    ai: AI,
    *,
    hosts: frozenset[str] | None = LOCAL_HOSTS,
    token: str | None = None,
    tracing: Tracing | None = None,
) -> Starlette:
    """The application behind ``roost serve``: every door, over ``ai``."""
    gateway = Gateway()
    wire = [*wire_door(), *gateway.wire_routes()]
    return create_host(
        ai,
        [
            *transports(wire, HOME),
            *wire,
            *gateway.http_routes(),
            *accounts_door(),
            *finetunes_door(),
            *markdown_door(),
            *openai_door(),
            *rest_door(),
            *openapi_door(),
            *pages_door(),
        ],
        hosts=hosts,
        token=token,
        exception_handlers={HTTPException: _no_route},
        tracing=tracing,
    )


async def _no_route(request: Request, refusal: Exception) -> Response:
    """What Cloudflare's edge says of a wrong method, of a wrong path within the API, and of one elsewhere."""
    path = request.scope.get(CARRIED, request.url.path)
    if isinstance(refusal, HTTPException) and refusal.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        error = AiError.of(WrongMethod(f"{request.method} not supported for requested URI."))
    elif path.startswith(_API):
        error = AiError.of(NoApiRoute(f"Could not route to {path}, perhaps your object identifier is invalid?"))
    else:
        error = AiError.of(NoRoute(path))
    to_the_wire = CARRIED in request.scope or request.url.hostname == WIRE_HOST  # elsewhere the edge gives no id
    ids = {"cf-ai-req-id": error.request_id} if to_the_wire else {}
    return JSONResponse(error.to_edge_envelope(), status_code=error.status, headers=ids)
