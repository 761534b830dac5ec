"""The form of the shape that a card promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catalog.shape import Shape
from worker.forms.chat import ChatForm
from worker.forms.completion import CompletionForm
from worker.forms.form import Form
from worker.forms.native import NativeForm
from worker.forms.responses import ResponsesForm


def form_of(shape: Shape, model: str, inputs: object) -> Form:
    """How ``model`` answers ``inputs`` in ``shape``."""
    given: Mapping[str, Any] = inputs if isinstance(inputs, Mapping) else {}
    match shape:
        case Shape.CHAT:
            return ChatForm(model, usage=wants_usage(given))
        case Shape.TEXT:
            return CompletionForm(model, usage=wants_usage(given))
        case Shape.RESPONSE:
            return ResponsesForm({**given, "model": model}, nulls=False)
    return NativeForm(functions=shape == Shape.FUNCTIONS)


def wants_usage(given: Mapping[str, Any]) -> bool:
    """Whether a stream ends with the usage: the platform tells it unless it is asked not to."""
    options = given.get("stream_options")
    return not (isinstance(options, Mapping) and options.get("include_usage") is False)
