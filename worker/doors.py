"""What every door that runs models does between reading a request and rendering its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from worker.answer import Answer
from worker.bindings import AI
from worker.errors import AiError
from worker.requests import until_client_leaves
from worker.streams import CONTENT_TYPE, sse_frames

Asked: TypeAlias = tuple[str, object, Mapping[str, Any] | None]
"""A model's name, its inputs as they came, and the options."""


async def answer_request(
    request: Request,
    read: Callable[[Request], Awaitable[Asked]],
    render: Callable[[dict[str, Any]], Any],
    refuse: Callable[[AiError], Response],
) -> Response:
    """Run what ``read`` finds in the request: a stream, or the rendered result, or the refusal.

    Stops computing when the client leaves, in whichever form it asked for the answer. ``request.state`` keeps what
    was ``asked`` and the ``answer``, for those who write logs.
    """
    ai: AI = request.app.state.ai
    try:
        request.state.asked = model, inputs, options = await read(request)
        request.state.answer = answer = await until_client_leaves(request, ai.generate(model, inputs, options))
        if answer.streaming:
            return _event_stream(answer)
        try:
            result = await until_client_leaves(request, answer.result())
        finally:
            await answer.aclose()
    except Exception as fault:
        return refuse(AiError.of(fault))
    return JSONResponse(render(result), headers=answer.headers)


def _event_stream(answer: Answer) -> StreamingResponse:
    """A streaming answer as an HTTP response. The content type is exact: clients compare it with ``===``."""
    headers = {**answer.headers, "content-type": CONTENT_TYPE, "cache-control": "no-cache"}
    return StreamingResponse(sse_frames(aiter(answer)), headers=headers)
