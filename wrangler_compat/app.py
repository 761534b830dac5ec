"""Assembles the doors over one AI, and answers for routes that don't exist."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from worker.app import create_host
from worker.bindings import AI
from worker.guard import LOCAL_HOSTS, edge_failure
from wrangler_compat.rest import rest_door
from wrangler_compat.wire import wire_door

_API = "/client/v4/"


def create_app(ai: AI, *, hosts: frozenset[str] | None = LOCAL_HOSTS, token: str | None = None) -> Starlette:
    """The application behind ``roost serve``: every door, over ``ai``."""
    return create_host(
        ai,
        [*rest_door(), *wire_door()],
        hosts=hosts,
        token=token,
        exception_handlers={HTTPException: _no_route},
    )


async def _no_route(request: Request, error: Exception) -> Response:
    """A wrong method is 7001, an unknown path 7003 within the API and 7000 elsewhere, as Cloudflare's edge has it."""
    path = request.url.path
    if isinstance(error, HTTPException) and error.status_code == 405:
        code, status, message = 7001, 405, f"{request.method} not supported for requested URI."
    elif path.startswith(_API):
        code, status = 7003, 404
        message = f"Could not route to {path}, perhaps your object identifier is invalid?"
    else:
        code, status, message = 7000, 404, "No route for that URI"
    return JSONResponse(edge_failure(code, message), status_code=status)
