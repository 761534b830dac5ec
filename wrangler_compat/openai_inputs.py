"""What an OpenAI request asks for, in the platform's words: inputs, and the extras that its API promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from runtime.errors import BadParameter
from worker.doors import Asked
from worker.forms.items import of_message, read_response
from worker.forms.tools import with_allowed, with_tools

Read: TypeAlias = tuple[Asked, dict[str, Any]]
_EXTRAS = ("stop", "logprobs", "top_logprobs", "logit_bias")
# Says who asks, or how it is to be sent, and nothing of what is asked: a recording is the same without it.
_OF_THE_CALL = (
    "include",
    "metadata",
    "model",
    "n",
    "options",
    "prompt_cache_key",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
)
_OF_RESPONSES = ("input", "instructions", "max_output_tokens", "reasoning", "text", "truncation")


def of_chat(body: Mapping[str, Any]) -> Read:
    """``chat/completions``."""
    inputs = _sampling(body)
    inputs.pop("prompt", None)
    if isinstance(inputs.get("messages"), list):
        inputs["messages"] = [of_message(message) for message in inputs["messages"]]
    return _asked(body, with_tools(inputs))


def of_completion(body: Mapping[str, Any]) -> Read:
    """``completions``: one prompt, as text."""
    inputs = _sampling(body)
    inputs.pop("messages", None)
    prompt = inputs.get("prompt")
    if isinstance(prompt, list):
        if len(prompt) != 1 or not isinstance(prompt[0], str):
            raise BadParameter("/prompt", "'/prompt' must be one text: roost reads neither token ids nor several")
        inputs["prompt"] = prompt[0]
    for name, idle in (("best_of", 1), ("echo", False), ("suffix", None)):
        if body.get(name) not in (None, idle):
            raise BadParameter(f"/{name}", f"'/{name}' isn't emulated")
    return _asked(body, inputs)


def of_response(body: Mapping[str, Any]) -> Read:
    """``responses``."""
    inputs = {**_sampling(body), **read_response(body)}
    inputs.pop("prompt", None)
    inputs = {name: value for name, value in inputs.items() if name not in _OF_RESPONSES}
    asked, extras = _asked(body, with_allowed(inputs))
    return asked, {name: value for name, value in extras.items() if name != "top_logprobs"}


def _asked(body: Mapping[str, Any], inputs: dict[str, Any]) -> Read:
    options = body.get("options")
    inputs = {name: value for name, value in inputs.items() if name not in _OF_THE_CALL}
    extras = {name: body[name] for name in _EXTRAS if body.get(name) is not None}
    return (_model(body), inputs, options if isinstance(options, Mapping) else None), extras


def _model(body: Mapping[str, Any]) -> str:
    model = body.get("model")
    return model if isinstance(model, str) else ""


def _sampling(body: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs that have the same name, or another one, here and there."""
    if body.get("n") not in (None, 1):
        raise BadParameter("/n", "'/n' must be 1: one choice is what there is")
    inputs = dict(body)
    if inputs.get("max_completion_tokens") is not None:
        inputs["max_tokens"] = inputs["max_completion_tokens"]
    return inputs
