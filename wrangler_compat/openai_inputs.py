"""What an OpenAI request asks for, in the platform's words: inputs, and the extras that its API promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from catalog import Catalog
from runtime.errors import BadParameter
from worker.doors import Asked
from worker.errors import NotEmulated
from wrangler_compat.openai_tools import as_list, flat_function, with_allowed, with_tool_calls, with_tools

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
_TEXT_PARTS = ("input_text", "output_text", "text")


def of_chat(body: Mapping[str, Any]) -> Read:
    """``chat/completions``."""
    inputs = _sampling(body)
    inputs.pop("prompt", None)
    if isinstance(inputs.get("messages"), list):
        inputs["messages"] = [_message(message) for message in inputs["messages"]]
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
    """``responses``: the input's items as messages. Nothing is stored, so nothing can be gone on from."""
    for name in ("previous_response_id", "conversation", "background", "prompt"):
        if body.get(name):
            raise NotEmulated(f"'/{name}': roost stores no responses; send the whole conversation as input")
    inputs: dict[str, Any] = {**_sampling(body), "messages": _items(body)}
    inputs.pop("prompt", None)
    if body.get("max_output_tokens") is not None:
        inputs["max_tokens"] = body["max_output_tokens"]
    if tools := body.get("tools"):
        inputs["tools"] = [flat_function(tool, place) for place, tool in enumerate(as_list(tools, "/tools"))]
    text = body.get("text")
    if isinstance(text, Mapping) and isinstance(form := text.get("format"), Mapping):
        inputs["response_format"] = {"type": form.get("type"), "json_schema": form.get("schema")}
    inputs = {name: value for name, value in inputs.items() if name not in _OF_RESPONSES}
    asked, extras = _asked(body, with_allowed(inputs))
    return asked, {name: value for name, value in extras.items() if name != "top_logprobs"}


def of_embeddings(catalog: Catalog, body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """``embeddings``: the model, and its inputs."""
    card = catalog[_model(body)]
    if card.task.name != "Text Embeddings":
        raise BadParameter("/model", f"'/model' must be an embedding model: {card.name} performs {card.task.name}")
    given = body.get("input")
    texts = given if isinstance(given, list) else [given]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise BadParameter("/input", "'/input' must be text or a list of texts")
    return card.name, {"text": texts}


def wants_usage(body: Mapping[str, Any]) -> bool:
    """Whether a stream ends with the usage: the platform tells it unless it is asked not to."""
    options = body.get("stream_options")
    return not (isinstance(options, Mapping) and options.get("include_usage") is False)


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


def _message(message: Any) -> Any:
    """OpenAI's newer word for the system is the developer."""
    if not isinstance(message, Mapping):
        return message
    told = with_tool_calls(message)
    return {**told, "role": "system"} if told.get("role") == "developer" else told


def _items(body: Mapping[str, Any]) -> list[Any]:
    given, instructions = body.get("input"), body.get("instructions")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if given is None and instructions:
        given = []
    if not isinstance(given, list):
        raise BadParameter("/input", "'/input' must be text or a list of items")
    messages = [_of_item(item, place) for place, item in enumerate(given) if not _is_reasoning(item)]
    return [{"role": "system", "content": instructions}, *messages] if instructions else messages


def _is_reasoning(item: Any) -> bool:
    return isinstance(item, Mapping) and item.get("type") == "reasoning"


def _of_item(item: Any, place: int) -> Any:
    if not isinstance(item, Mapping):
        return item
    kind = item.get("type", "message")
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        return {"role": "assistant", "content": "", "tool_calls": [call]}
    if kind == "function_call_output":
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": _content(item.get("output"))}
    if kind != "message":
        raise NotEmulated(f"'/input/{place}': an item of the type {kind}; roost knows messages and function calls")
    return _message({"role": item.get("role"), "content": _content(item.get("content"))})


def _content(content: Any) -> Any:
    return [_part(part) for part in content] if isinstance(content, list) else content


def _part(part: Any) -> Any:
    if isinstance(part, Mapping) and part.get("type") in _TEXT_PARTS:
        return {"type": "text", "text": part.get("text")}
    return part
