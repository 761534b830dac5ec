"""What every door that runs models does between reading a request and rendering its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from catalog.shape import Shape
from worker.answer import Answer
from worker.bindings import AI
from worker.errors import AiError
from worker.forms.form import Form
from worker.forms.native import NativeForm
from worker.remote import SHAPE_HEADER
from worker.requests import until_client_leaves
from worker.streams import CONTENT_TYPE

Asked: TypeAlias = tuple[str, object, Mapping[str, Any] | None]
"""A model's name, its inputs as they came, and the options."""
Refuse: TypeAlias = Callable[[AiError], Response]


class Question(NamedTuple):
    """A request as a door reads it. ``extras``: see :meth:`AI.generate`."""

    asked: Asked
    form: Form
    extras: Mapping[str, Any] | None = None


class CardsForm(NamedTuple):
    """The form that the card promises; ``render`` puts the result into an envelope, or doesn't."""

    render: Callable[[dict[str, Any]], Any]

    async def whole(self, answer: Answer) -> Any:
        """The result, rendered."""
        return self.render(await answer.result())

    def frames(self, answer: Answer) -> AsyncIterator[bytes]:
        """The stream."""
        return answer.frames()


async def answer_request(
    request: Request,
    read: Callable[[Request], Awaitable[Asked]],
    render: Callable[[dict[str, Any]], Any],
    refuse: Refuse,
) -> Response:
    """Run what ``read`` finds in the request: a stream, or the rendered result, or the refusal."""

    async def question(request: Request) -> Question:
        native = request.headers.get(SHAPE_HEADER) == Shape.NATIVE
        return Question(await read(request), NativeForm() if native else CardsForm(render))

    return await answer_question(request, question, refuse)


async def answer_question(request: Request, read: Callable[[Request], Awaitable[Question]], refuse: Refuse) -> Response:
    """Run the question that ``read`` finds, and render the answer in the question's own form.

    Stops computing when the client leaves, in whichever form it asked for the answer. ``request.state`` keeps what
    was ``asked`` and the ``answer``, for those who write logs.
    """
    ai: AI = request.app.state.ai
    try:
        (model, inputs, options), form, extras = await read(request)
        request.state.asked = model, inputs, options
        request.state.answer = answer = await until_client_leaves(request, ai.generate(model, inputs, options, extras))
        told = {SHAPE_HEADER: answer.shape.value} if isinstance(form, NativeForm) else {}
        if answer.streaming:
            return _event_stream(answer, form, told)
        try:
            body = await until_client_leaves(request, form.whole(answer))
        finally:
            await answer.aclose()
    except Exception as fault:
        return refuse(AiError.of(fault))
    return JSONResponse(body, headers={**answer.headers, **told})


def _event_stream(answer: Answer, form: Form, told: Mapping[str, str]) -> StreamingResponse:
    """A streaming answer as an HTTP response. The content type is exact: clients compare it with ``===``."""
    headers = {**answer.headers, **told, "content-type": CONTENT_TYPE, "cache-control": "no-cache"}
    return StreamingResponse(form.frames(answer), headers=headers)
