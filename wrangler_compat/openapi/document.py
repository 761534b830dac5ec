"""Puts the document together: the routes that there are, each with its description, and a path per card."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from catalog import Catalog
from runtime.tasks import TASKS
from worker.bindings import AI
from wrangler_compat.openapi.cards import run_operation, run_path
from wrangler_compat.openapi.operations import OPERATIONS
from wrangler_compat.openapi.shapes import SHAPES

PATH = "/cdn-cgi/local/openapi.json"
_TWIN = ".json"
_CONVERTER = re.compile(r"\{(\w+):\w+\}")
_PARAMETERS: dict[str, dict[str, Any]] = {
    "account": {"type": "string", "pattern": "^[A-Za-z0-9]{1,64}$", "default": "local"},
    "finetune": {"type": "string", "pattern": "^[A-Za-z0-9-]{1,64}$"},
}
_EDGE = (405,)


def openapi_door() -> list[BaseRoute]:
    """The document's route."""
    return [Route(PATH, _openapi, methods=["GET"])]


async def _openapi(request: Request) -> Response:
    ai: AI = request.app.state.ai
    host = f"{request.url.scheme}://{request.headers.get('host', '')}"
    token = bool(request.app.state.token)
    return JSONResponse(describe_doors(request.app.routes, ai.catalog, host, token=token))


def describe_doors(routes: Iterable[BaseRoute], catalog: Catalog, url: str, *, token: bool = False) -> dict[str, Any]:
    """The document of the doors that ``routes`` are, for the roost at ``url``, which may ask for a token."""
    edge = (*_EDGE, 401) if token else _EDGE
    paths: dict[str, dict[str, Any]] = {}
    for path, method in _offered(routes):
        if (operation := OPERATIONS.get((path, method))) is not None:
            paths.setdefault(path, _at(path))[method] = operation.described(statuses=edge)
    for card in sorted(catalog, key=lambda card: card.name):
        path = run_path(card)
        paths[path] = {**_at(path), "post": run_operation(card).described(statuses=edge)}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "roost",
            "version": importlib.metadata.version("roost"),
            "summary": "Workers AI on your own machine",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": url}],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": {**SHAPES, **_names(catalog)}},
    }
    if token:
        document["security"] = [{"token": []}]
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return document


def _names(catalog: Catalog) -> dict[str, Any]:
    known = sorted(card.name for card in catalog)
    runnable = [name for name in known if catalog[name].task.name in TASKS]
    return {"ModelName": {"enum": known}, "RunnableName": {"enum": runnable}}


def _offered(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str]]:
    """Path and method of every route, those of the pages' twins included, which answer on their pages' routes."""
    for route in routes:
        if not isinstance(route, Route):
            continue
        path = _CONVERTER.sub(r"{\1}", route.path)
        for method in sorted(route.methods or ()):
            yield path, method.lower()
            yield path + _TWIN, method.lower()


def _at(path: str) -> dict[str, Any]:
    """What is true of every method of a path: its parameters. A model's slashes are escaped there."""
    names = re.findall(r"\{(\w+)\}", path)
    schemas = {**_PARAMETERS, "model": {"$ref": "#/components/schemas/ModelName"}}
    found = [{"name": name, "in": "path", "required": True, "schema": schemas[name]} for name in names]
    return {"parameters": found} if found else {}
