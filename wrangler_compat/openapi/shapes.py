"""The JSON Schemas that several operations share: envelopes, errors, usage, OpenAI's objects. Knows no route."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def an_object(required: Schema, optional: Schema | None = None) -> Schema:
    """An object with these properties; others may stand beside them."""
    both = {**required, **(optional or {})}
    return {"type": "object", "properties": both, "required": list(required)} if required else _open(both)


def _open(named: Schema) -> Schema:
    return {"type": "object", "properties": named} if named else {"type": "object"}


def a_list(items: Schema) -> Schema:
    """An array of ``items``."""
    return {"type": "array", "items": items}


def ref(name: str) -> Schema:
    """One of :data:`SHAPES`."""
    return {"$ref": f"#/components/schemas/{name}"}


def envelope(result: Schema, **more: Schema) -> Schema:
    """Cloudflare's envelope around a result."""
    told = {"success": {"const": True}, "errors": a_list({}), "messages": a_list({})}
    return an_object({"result": result, **told, **more})


TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
BOOLEAN: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
NUMBER_OR_NULL: Schema = {"type": ["number", "null"]}
COUNT_OR_NULL: Schema = {"type": ["integer", "null"], "minimum": 0}
ANY: Schema = {}
_SUMS = {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT}
_ERROR = an_object({"code": {"type": "integer"}, "message": TEXT})
_ERRORS = {"type": "array", "items": _ERROR, "minItems": 1}
_FUNCTION = an_object({"name": TEXT, "arguments": TEXT})
_PROPERTY = an_object({"property_id": TEXT, "value": {"anyOf": [TEXT, a_list(ref("Price"))]}})
_FINISH = {"enum": ["stop", "length", "tool_calls"]}

SHAPES: dict[str, Schema] = {
    "Usage": an_object(_SUMS, {"prompt_tokens_details": an_object({"cached_tokens": COUNT})}),
    "TextGenerationResult": an_object(
        {"response": {"description": "text, or the JSON value where JSON was asked for"}, "usage": ref("Usage")},
        {"tool_calls": a_list({"type": "object"})},
    ),
    "Failure": an_object(
        {
            "success": {"const": False},
            "errors": _ERRORS,
            "messages": a_list({}),
            "result": {"type": ["object", "null"]},
        }
    ),
    "WireFailure": an_object(
        {"name": TEXT, "internalCode": {"type": "integer"}, "httpCode": {"type": "integer"}, "message": TEXT},
        {"description": TEXT, "requestId": TEXT, "errors": _ERRORS},
    ),
    "OpenAIFailure": an_object(
        {"success": {"const": False}, "errors": _ERRORS}, {"error": an_object({"message": TEXT, "code": TEXT})}
    ),
    "Price": an_object({"unit": TEXT, "price": NUMBER, "currency": TEXT}),
    "Model": an_object(
        {
            "id": TEXT,
            "source": {"enum": [1, 2]},
            "name": TEXT,
            "description": TEXT,
            "task": an_object({"id": TEXT, "name": TEXT, "description": TEXT}),
            "tags": a_list(TEXT),
            "properties": a_list(_PROPERTY),
        },
        {"created_at": TEXT},
    ),
    "Finetune": an_object(
        {
            "id": TEXT,
            "name": TEXT,
            "model": TEXT,
            "description": TEXT,
            "public": BOOLEAN,
            "created_at": TEXT,
            "modified_at": TEXT,
        }
    ),
    "ChatCompletion": an_object(
        {
            "id": TEXT,
            "object": {"const": "chat.completion"},
            "created": COUNT,
            "model": TEXT,
            "choices": a_list(an_object({"index": COUNT, "message": ref("ChatMessage"), "finish_reason": _FINISH})),
            "usage": ref("Usage"),
        }
    ),
    "ChatMessage": an_object(
        {"role": {"const": "assistant"}, "content": TEXT_OR_NULL},
        {"tool_calls": a_list(an_object({"id": TEXT, "type": {"const": "function"}, "function": _FUNCTION}))},
    ),
    "Completion": an_object(
        {
            "id": TEXT,
            "object": {"const": "text_completion"},
            "created": COUNT,
            "model": TEXT,
            "choices": a_list(an_object({"index": COUNT, "text": TEXT, "finish_reason": _FINISH})),
            "usage": ref("Usage"),
        }
    ),
    "Response": an_object(
        {
            "id": TEXT,
            "object": {"const": "response"},
            "created_at": COUNT,
            "model": TEXT,
            "status": {"enum": ["completed", "incomplete"]},
            "output": a_list(an_object({"type": {"enum": ["message", "function_call"]}, "id": TEXT})),
        },
        {"usage": an_object({"input_tokens": COUNT, "output_tokens": COUNT, "total_tokens": COUNT})},
    ),
    "EmbeddingsList": an_object(
        {
            "object": {"const": "list"},
            "model": TEXT,
            "data": a_list(an_object({"object": {"const": "embedding"}, "index": COUNT, "embedding": ANY})),
        }
    ),
    "OpenAIModel": an_object({"id": TEXT, "object": {"const": "model"}, "created": COUNT, "owned_by": TEXT}),
    "Converted": an_object(
        {"id": TEXT, "name": TEXT, "mimeType": TEXT, "format": {"enum": ["markdown", "error"]}},
        {"tokens": COUNT, "data": TEXT, "error": TEXT},
    ),
    "Supported": an_object({"extension": TEXT, "mimeType": TEXT}),
    "Loaded": an_object(
        {
            "names": a_list(TEXT),
            "weights": TEXT,
            "precision": TEXT,
            "stand_in": BOOLEAN,
            "device": TEXT,
            "running": COUNT,
            "waiting": COUNT,
            "cached_tokens": COUNT,
            "generated_tokens": COUNT,
            "megabytes": COUNT,
            "idle_seconds": NUMBER,
            "loaded_seconds": NUMBER,
            "adapters": a_list(an_object({"name": TEXT, "rank": COUNT, "megabytes": NUMBER})),
        }
    ),
    "UsageRow": an_object(
        {
            "model": TEXT,
            "requests": COUNT,
            "prompt_tokens": COUNT,
            "cached_tokens": COUNT,
            "completion_tokens": COUNT,
            "neurons": NUMBER_OR_NULL,
        }
    ),
    "Recent": an_object(
        {
            "request_id": TEXT,
            "model": TEXT,
            "streaming": BOOLEAN,
            "at": NUMBER,
            "outcome": {"enum": ["running", "done", "failed", "left"]},
            "state": {"enum": ["waiting", "reading", "writing", "done", "failed", "left"]},
            "code": {"type": ["integer", "null"]},
            "reason": TEXT_OR_NULL,
            "age": NUMBER,
            "queued": NUMBER_OR_NULL,
            "first": NUMBER_OR_NULL,
            "took": NUMBER_OR_NULL,
            "prompt_tokens": COUNT_OR_NULL,
            "cached_tokens": COUNT_OR_NULL,
            "completion_tokens": COUNT,
            "tokens_per_second": NUMBER_OR_NULL,
            "weights": TEXT_OR_NULL,
            "stand_in": BOOLEAN,
            "device": TEXT_OR_NULL,
        }
    ),
    "Summary": an_object(
        {
            "name": TEXT,
            "display_name": TEXT,
            "author": TEXT,
            "description": TEXT,
            "task": TEXT,
            "runs_here": BOOLEAN,
            "beta": BOOLEAN,
            "lora": BOOLEAN,
            "function_calling": BOOLEAN,
            "deprecated": BOOLEAN,
            "context": COUNT_OR_NULL,
        }
    ),
    "Facet": an_object(
        {
            "name": TEXT,
            "title": TEXT,
            "values": a_list(an_object({"value": TEXT, "count": COUNT, "chosen": BOOLEAN})),
        }
    ),
}
"""What ``components.schemas`` of the document holds."""
