"""What wrangler asks of Cloudflare's API before and beside a run: who am I, which accounts, a preview session.

wrangler calls the AI binding remote and opens an edge-preview session for it; the sequence and the shapes were seen
with wrangler 3.114 to 4.164 (``dev/create-worker-preview.ts``). Any credentials are good.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from worker.guard import PREVIEW_HEADER, TOKEN_PARAMETER, given_token
from wrangler_compat.rest import success_envelope

ACCOUNT = "0" * 31 + "1"
"""The account that is listed where wrangler wants to choose one; routes take any."""
_NAME = "roost (this machine)"
_API = "/client/v4"
_OF = f"{_API}/accounts/{{account}}"
_SINCE = "2024-01-01T00:00:00Z"
# Not a valid host name, on purpose: wrangler's proxy sets it on a URL, the setter ignores it, and the request stays on
# the loopback address, where `roost serve --tls` listens on 443.
_SUBDOMAIN = "local:443"


def accounts_door() -> list[BaseRoute]:
    """The routes, all under ``/client/v4`` but for the two that a session names itself."""
    answers = {
        f"{_API}/accounts": _accounts,
        f"{_API}/memberships": _memberships,
        f"{_API}/user": _user,
        f"{_API}/user/tokens/verify": _token,
        _OF: _account,
        f"{_OF}/tokens/verify": _token,
        f"{_OF}/workers/subdomain": _subdomain,
        f"{_OF}/workers/subdomain/edge-preview": _session,
        f"{_OF}/workers/scripts/{{script}}/subdomain/edge-preview": _session,
    }
    return [
        *[Route(path, answer, methods=["GET"]) for path, answer in answers.items()],
        Route(f"{_OF}/workers/scripts/{{script}}/edge-preview", _upload, methods=["POST"]),
        Route("/cdn-cgi/local/preview/exchange", _exchange, methods=["GET"]),
        Route("/cdn-cgi/local/preview/prewarm", _prewarm, methods=["POST"]),
    ]


def _listed(rows: list[dict[str, Any]]) -> JSONResponse:
    count = len(rows)
    info = {"page": 1, "per_page": 50, "total_pages": 1, "count": count, "total_count": count}
    return JSONResponse({**success_envelope(rows), "result_info": info})


def _described(account: str) -> dict[str, Any]:
    return {"id": account, "name": _NAME, "type": "standard", "created_on": _SINCE, "settings": {}}


async def _accounts(_request: Request) -> Response:
    return _listed([_described(ACCOUNT)])


async def _memberships(_request: Request) -> Response:
    return _listed([{"id": ACCOUNT, "account": _described(ACCOUNT), "status": "accepted", "roles": []}])


async def _account(request: Request) -> Response:
    return JSONResponse(success_envelope(_described(request.path_params["account"])))


async def _user(_request: Request) -> Response:
    return JSONResponse(success_envelope({"id": ACCOUNT, "email": "roost@localhost", "first_name": "roost"}))


async def _token(_request: Request) -> Response:
    return JSONResponse(success_envelope({"id": ACCOUNT, "status": "active"}))


async def _subdomain(_request: Request) -> Response:
    return JSONResponse(success_envelope({"subdomain": _SUBDOMAIN}))


async def _session(request: Request) -> Response:
    query = urlencode({TOKEN_PARAMETER: _carried(request)})  # wrangler sends no header there
    url = f"{_here(request)}/cdn-cgi/local/preview/exchange?{query}"
    return JSONResponse(success_envelope({"token": _carried(request), "exchange_url": url}))


async def _exchange(request: Request) -> Response:
    """wrangler 4.40 to 4.60 need all three; no envelope."""
    here = _here(request)
    inspector = here.replace("http", "ws", 1)
    return JSONResponse(
        {
            "token": _carried(request),
            "prewarm": f"{here}/cdn-cgi/local/preview/prewarm?{request.url.query}",
            "inspector_websocket": f"{inspector}/",
        }
    )


async def _upload(request: Request) -> Response:
    """The proxy Worker that would run at the edge is not needed: what it would forward comes here anyway."""
    async for _ in request.stream():
        pass
    return JSONResponse(success_envelope({"preview_token": _carried(request)}))


async def _prewarm(_request: Request) -> Response:
    return Response(status_code=204)


def _here(request: Request) -> str:
    host, port = request.scope["server"]
    return f"{request.scope['scheme']}://{host}:{port}"


def _carried(request: Request) -> str:
    """The caller's own token, which wrangler's proxy then sends as :data:`PREVIEW_HEADER`."""
    return given_token(request) or PREVIEW_HEADER
