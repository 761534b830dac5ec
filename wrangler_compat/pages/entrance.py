"""Where ``roost serve --token`` asks a person for it: a form, and a cookie that stands for it in this browser."""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from worker.guard import PAGE_COOKIE, PAGES, from_here, is_token, page_key
from worker.requests import read_body
from wrangler_compat.pages.render import page

_FIELDS = 8


async def show_entrance(request: Request) -> Response:
    """The form; where no token is asked for, the way on."""
    target = _within(request.query_params.get("next", ""))
    if not request.app.state.token:
        return RedirectResponse(target, status_code=303)
    return _form(target, "")


async def enter(request: Request) -> Response:
    """The way on with the cookie, for a form of this page that holds the token; else the form again."""
    token = request.app.state.token
    given = await _fields(request)
    target = _within(given.get("next", ""))
    if not token:
        return RedirectResponse(target, status_code=303)
    if not from_here(request) or not is_token(given.get("token", ""), token):
        return _form(target, "That is not the token that this roost was started with.", 401)
    answer = RedirectResponse(target, status_code=303)
    secure = request.url.scheme == "https"
    answer.set_cookie(PAGE_COOKIE, page_key(token), httponly=True, samesite="strict", secure=secure)
    return answer


async def _fields(request: Request) -> dict[str, str]:
    text = (await read_body(request)).decode("utf-8", "replace")
    try:
        return {name: values[-1] for name, values in parse_qs(text, max_num_fields=_FIELDS).items()}
    except ValueError:  # more fields than the form has
        return {}


def _form(target: str, mistake: str, status: int = 200) -> Response:
    return page("enter.html", {"next": target, "mistake": mistake, "here": ""}, status)


def _within(target: str) -> str:
    """``target`` if it is a path of this roost: not another site's address, nor one that a browser takes for one."""
    return target if target.startswith(("/cdn-cgi/local/", "/?")) and "\\" not in target else f"{PAGES}models"
