"""Templates to pages, under a policy that lets nothing in from elsewhere. Knows no route."""

from __future__ import annotations

import functools
import importlib.metadata
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from worker.guard import STATIC

_HERE = Path(__file__).parent
STATIC_FOLDER = _HERE / "static"
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}
"""Of every page. Nothing is inline, neither script nor style; nothing comes from another origin."""


def page(template: str, data: dict[str, Any], status: int = 200) -> HTMLResponse:
    """A page. Everything in ``data`` is escaped where the template puts it."""
    text = _templates().get_template(template).render(data)
    return HTMLResponse(text, status_code=status, headers=HEADERS)


@functools.cache
def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(pretty=_pretty, path=path_of)
    found.globals.update(static=STATIC, version=importlib.metadata.version("roost"))
    return found


def path_of(name: str) -> str:
    """A model's name within an address."""
    return quote(name, safe="/@")


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
