"""Reads validated inputs of text generation into the task's own types, and refuses what means nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtime.config import GenerationInputs, SamplingParams, Tool
from runtime.errors import BadParameter

DEFAULT_TEMPERATURE = 0.6
"""Where neither the inputs nor the card's schema name one; the value in the platform's current schemas."""
DEFAULT_MAX_TOKENS = 256
_MOST_STOPS, _MOST_TOOLS, _MOST_LOGPROBS, _MOST_BIASES = 16, 128, 20, 1024
_ANY_OBJECT: dict[str, Any] = {"type": "object"}


def read_inputs(inputs: Mapping[str, Any]) -> GenerationInputs:
    """Validated inputs (a card's defaults filled in) as this task's own type; :class:`BadParameter` if senseless."""
    limit = inputs.get("max_completion_tokens") or inputs.get("max_tokens", DEFAULT_MAX_TOKENS)
    if not isinstance(limit, int | float) or limit < 1 or limit != int(limit):
        raise BadParameter("/max_tokens", "'/max_tokens' must be >= 1")
    tools, must_call = _offered(inputs)
    return GenerationInputs(
        max_tokens=int(limit),
        sampling=_sampling(inputs),
        prompt=inputs.get("prompt"),
        messages=_messages(inputs.get("messages") or ()),
        raw=inputs.get("raw") in (True, "true"),
        stop=_stops(inputs.get("stop")),
        schema=wanted_schema(inputs),
        tools=tools,
        must_call=must_call,
    )


def _messages(given: Any) -> tuple[dict[str, object], ...]:
    """Some cards' schemas say nothing of what a message is."""
    if not isinstance(given, list | tuple):
        raise BadParameter("/messages", "'/messages' must be a list")
    return tuple(dict(_mapping(message, f"/messages/{place}")) for place, message in enumerate(given))


def wanted_schema(inputs: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The JSON Schema that ``response_format`` (or ``guided_json``) asks for, bare or in OpenAI's wrapping."""
    path = "/response_format"
    if (given := inputs.get("response_format")) is None:
        schema = inputs.get("guided_json")
        return None if schema is None else _mapping(schema, "/guided_json")
    kind = _mapping(given, path).get("type")
    if kind in (None, "text"):
        return None
    if kind == "json_object":
        return _ANY_OBJECT
    if kind != "json_schema":
        raise BadParameter(path, f"enum {kind} not in text,json_object,json_schema at '{path}/type'")
    schema = _mapping(given.get("json_schema"), f"{path}/json_schema")
    wrapped = isinstance(schema.get("schema"), Mapping) and "name" in schema
    return _mapping(schema["schema"], f"{path}/json_schema") if wrapped else schema


def _offered(inputs: Mapping[str, Any]) -> tuple[tuple[Tool, ...], bool]:
    """The tools that may be called, and whether one must be."""
    given, choice = inputs.get("tools") or (), inputs.get("tool_choice") or "auto"
    if not isinstance(given, list | tuple) or len(given) > _MOST_TOOLS:
        raise BadParameter("/tools", f"'/tools' must be a list of at most {_MOST_TOOLS}")
    tools = tuple(_tool(tool, f"/tools/{place}") for place, tool in enumerate(given))
    if choice == "none":
        return (), False
    if choice == "auto":
        return tools, False
    if choice in ("required", "any"):
        named = tools
    elif isinstance(choice, Mapping):
        inner = choice.get("function", choice)
        wanted = inner.get("name") if isinstance(inner, Mapping) else None
        named = tuple(tool for tool in tools if tool.name == wanted)
    else:
        raise BadParameter("/tool_choice", "'/tool_choice' must be none, auto, required or a function's name")
    if not named:
        raise BadParameter("/tool_choice", "'/tool_choice' asks for a tool that '/tools' doesn't have")
    return named, True


def _tool(value: Any, path: str) -> Tool:
    outer = _mapping(value, path)
    inner = _mapping(outer["function"], f"{path}/function") if "function" in outer else outer
    name = inner.get("name")
    if not isinstance(name, str) or not name:
        raise BadParameter(path, f"required properties at '{path}' are 'name'")
    parameters = inner.get("parameters")
    return Tool(
        name,
        str(inner.get("description") or ""),
        {"type": "object", "properties": {}} if parameters is None else _mapping(parameters, f"{path}/parameters"),
    )


def _stops(given: Any) -> tuple[str, ...]:
    stops = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list | tuple) else given or ()
    if not isinstance(stops, tuple) or len(stops) > _MOST_STOPS or not all(isinstance(stop, str) for stop in stops):
        raise BadParameter("/stop", f"'/stop' must be text, or a list of at most {_MOST_STOPS} texts")
    return stops


def _sampling(inputs: Mapping[str, Any]) -> SamplingParams:
    return SamplingParams(
        temperature=inputs.get("temperature", DEFAULT_TEMPERATURE),
        top_p=inputs.get("top_p"),
        top_k=_whole(inputs.get("top_k")),
        seed=_whole(inputs.get("seed")),
        repetition_penalty=inputs.get("repetition_penalty"),
        frequency_penalty=inputs.get("frequency_penalty"),
        presence_penalty=inputs.get("presence_penalty"),
        min_p=inputs.get("min_p"),
        logit_bias=_bias(inputs.get("logit_bias")),
        logprobs=_logprobs(inputs.get("logprobs"), inputs.get("top_logprobs")),
    )


def _bias(given: Any) -> tuple[tuple[int, float], ...]:
    """``{"token id": from -100 to 100}``, as OpenAI's API has it."""
    path = "/logit_bias"
    try:
        biases = tuple((int(token), float(bias)) for token, bias in _mapping(given or {}, path).items())
    except (TypeError, ValueError):
        raise BadParameter(path, f"'{path}' must map token ids to numbers") from None
    if len(biases) > _MOST_BIASES or not all(-100 <= bias <= 100 for _, bias in biases):
        raise BadParameter(path, f"'{path}' must have at most {_MOST_BIASES} numbers from -100 to 100")
    return biases


def _logprobs(given: Any, top: Any) -> int | None:
    """How many of the best tokens to tell of: chats say ``true`` and ``top_logprobs``, completions a number."""
    if given is None or given is False:
        return None
    count = (top or 0) if given is True else given
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= _MOST_LOGPROBS:
        raise BadParameter("/top_logprobs", f"'/top_logprobs' must be from 0 to {_MOST_LOGPROBS}")
    return count


def _mapping(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise BadParameter(path, f"'{path}' must be an object")
    return value


def _whole(value: float | None) -> int | None:
    """JSON Schema counts 2.0 as an integer; Python doesn't."""
    return None if value is None else int(value)
