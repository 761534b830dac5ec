"""Assembles the doors over one AI, and answers for routes that don't exist."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from worker.app import create_host
from worker.bindings import AI
from worker.guard import LOCAL_HOSTS
from worker.tracing import Tracing
from wrangler_compat.accounts import accounts_door
from wrangler_compat.edge import no_route, refused
from wrangler_compat.finetunes import finetunes_door
from wrangler_compat.gateway import Gateway
from wrangler_compat.markdown import markdown_door
from wrangler_compat.openai import openai_door
from wrangler_compat.openapi import openapi_door
from wrangler_compat.pages import HOME, pages_door
from wrangler_compat.rest import rest_door
from wrangler_compat.transports import transports
from wrangler_compat.wire import wire_door


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
        tracing=tracing,
        refuse=refused,
        exception_handlers={HTTPException: no_route},
    )
