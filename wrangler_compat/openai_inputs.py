"""What an OpenAI request asks for, in the platform's words: inputs, and the extras that its API promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from runtime.errors import BadParameter
from worker.doors import Asked
from worker.errors import NotEmulated

Read: TypeAlias = tuple[Asked, dict[str, Any]]
_EXTRAS = ("stop", "logprobs", "top_logprobs", "logit_bias")
_TEXT_PARTS = ("input_text", "output_text", "text")


def of_chat(body: Mapping[str, Any]) -> Read:
    """``chat/completions``."""
    inputs = _sampling(body)
    inputs.pop("prompt", None)
    if isinstance(inputs.get("messages"), list):
        inputs["messages"] = [_message(message) for message in inputs["messages"]]
    return _asked(body, inputs)


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
        inputs["tools"] = [_function(tool, place) for place, tool in enumerate(_list(tools, "/tools"))]
    text = body.get("text")
    if isinstance(text, Mapping) and isinstance(form := text.get("format"), Mapping):
        inputs["response_format"] = {"type": form.get("type"), "json_schema": form.get("schema")}
    asked, extras = _asked(body, inputs)
    return asked, {name: value for name, value in extras.items() if name != "top_logprobs"}


def wants_usage(body: Mapping[str, Any]) -> bool:
    """Whether a stream ends with the usage: the platform tells it unless it is asked not to."""
    options = body.get("stream_options")
    return not (isinstance(options, Mapping) and options.get("include_usage") is False)


def _asked(body: Mapping[str, Any], inputs: dict[str, Any]) -> Read:
    options = body.get("options")
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
    if isinstance(message, Mapping) and message.get("role") == "developer":
        return {**message, "role": "system"}
    return message


def _items(body: Mapping[str, Any]) -> list[Any]:
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else _list(given, "/input")
    messages = [_of_item(item) for item in items if not _is_reasoning(item)]
    instructions = body.get("instructions")
    return [{"role": "system", "content": instructions}, *messages] if instructions else messages


def _is_reasoning(item: Any) -> bool:
    return isinstance(item, Mapping) and item.get("type") == "reasoning"


def _of_item(item: Any) -> Any:
    if not isinstance(item, Mapping):
        return item
    if item.get("type") == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        return {"role": "assistant", "content": "", "tool_calls": [call]}
    if item.get("type") == "function_call_output":
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")}
    content = item.get("content")
    if isinstance(content, list):
        content = [_part(part) for part in content]
    return _message({"role": item.get("role"), "content": content})


def _part(part: Any) -> Any:
    if isinstance(part, Mapping) and part.get("type") in _TEXT_PARTS:
        return {"type": "text", "text": part.get("text")}
    return part


def _function(tool: Any, place: int) -> Any:
    if not isinstance(tool, Mapping) or tool.get("type") != "function":
        raise BadParameter(f"/tools/{place}", f"'/tools/{place}' must be a function: roost has no tools of its own")
    return {name: value for name, value in tool.items() if name not in ("type", "strict")}


def _list(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadParameter(path, f"'{path}' must be a list")
    return value
