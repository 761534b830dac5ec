"""Every route that the document describes, by its path, and those that it leaves out, with why."""

from __future__ import annotations

from wrangler_compat.openapi.operation import RUN_STATUSES, Operation
from wrangler_compat.openapi.shapes import ANY, BOOLEAN, TEXT, a_list, an_object, envelope, ref

_ACCOUNT = "/client/v4/accounts/{account}/ai"
_LOCAL = "/cdn-cgi/local"
_COUNT = {"type": "integer", "minimum": 0}
_SEARCH = {
    "search": TEXT,
    "task": TEXT,
    "author": TEXT,
    "source": {"type": "integer"},
    "hide_experimental": BOOLEAN,
    "include_deprecated": BOOLEAN,
    "page": {"type": "integer", "minimum": 1},
    "per_page": {"type": "integer", "minimum": 1, "maximum": 1000},
}
_BROWSE = {name: a_list(TEXT) for name in ("runs", "task", "tools", "lora", "beta", "deprecated", "author")}
_PAGED = an_object({"page": _COUNT, "per_page": _COUNT, "count": _COUNT, "total_count": _COUNT})
_FILES = an_object({"files": a_list({"type": "string", "format": "binary"})}, {"conversionOptions": TEXT})
_CONVERT_STATUSES = (400, 408, 413)
_TUNE_STATUSES = (400, 405, 409, 413)


def _openai(id_: str, summary: str, gives: str, needed: dict[str, object], *, streams: bool = True) -> Operation:
    takes = an_object({"model": ref("RunnableName"), **needed})
    return Operation(
        id_,
        "OpenAI",
        summary,
        gives=ref(gives),
        takes=takes,
        statuses=RUN_STATUSES,
        failure="OpenAIFailure",
        streams=streams,
        identified=False,
    )


_MESSAGES = {"messages": a_list(an_object({"role": TEXT, "content": ANY}))}
CLOUDFLARE: dict[tuple[str, str], Operation] = {
    (f"{_ACCOUNT}/models/search", "get"): Operation(
        "searchModels",
        "Catalogue",
        "The models, filtered and paged",
        gives=envelope(a_list(ref("Model")), result_info=_PAGED),
        query=_SEARCH,
        statuses=(400,),
    ),
    (f"{_ACCOUNT}/models/schema", "get"): Operation(
        "modelSchema",
        "Catalogue",
        "A model's input and output JSON Schemas",
        gives=envelope(an_object({"input": {"type": "object"}, "output": {"type": "object"}})),
        query={"model": ref("ModelName")},
        needed=("model",),
        statuses=(400,),
    ),
    (f"{_ACCOUNT}/tasks/search", "get"): Operation(
        "searchTasks",
        "Catalogue",
        "The tasks that models perform",
        gives=envelope(a_list(an_object({"id": TEXT, "name": TEXT, "description": TEXT}))),
    ),
    (f"{_ACCOUNT}/authors/search", "get"): Operation(
        "searchAuthors", "Catalogue", "The models' authors", gives=envelope(a_list(an_object({"name": TEXT})))
    ),
    (f"{_ACCOUNT}/tomarkdown", "post"): Operation(
        "toMarkdown",
        "Markdown",
        "Documents to markdown",
        gives=envelope(a_list(ref("Converted"))),
        form=_FILES,
        statuses=_CONVERT_STATUSES,
    ),
    (f"{_ACCOUNT}/tomarkdown/supported", "get"): Operation(
        "toMarkdownSupported", "Markdown", "What can be converted", gives=envelope(a_list(ref("Supported")))
    ),
    (f"{_ACCOUNT}/finetunes", "get"): Operation(
        "finetunes", "Fine-tunes", "The LoRA adapters here", gives=envelope(a_list(ref("Finetune")))
    ),
    (f"{_ACCOUNT}/finetunes", "post"): Operation(
        "createFinetune",
        "Fine-tunes",
        "A new one, as yet without files",
        gives=envelope(ref("Finetune")),
        takes=an_object({"model": ref("ModelName"), "name": TEXT}, {"description": TEXT, "public": BOOLEAN}),
        statuses=_TUNE_STATUSES,
    ),
    (f"{_ACCOUNT}/finetunes/public", "get"): Operation(
        "publicFinetunes", "Fine-tunes", "Those that are public", gives=envelope(a_list(ref("Finetune")))
    ),
    (f"{_ACCOUNT}/finetunes/{{finetune}}/finetune-assets", "post"): Operation(
        "uploadFinetuneAsset",
        "Fine-tunes",
        "One of an adapter's two files",
        gives=envelope(an_object({"success": {"const": True}})),
        form=an_object({"file": {"type": "string", "format": "binary"}, "file_name": TEXT}),
        statuses=_TUNE_STATUSES,
    ),
}
OPENAI: dict[tuple[str, str], Operation] = {
    (f"{_ACCOUNT}/v1/chat/completions", "post"): _openai(
        "chatCompletions", "A chat, as OpenAI has it", "ChatCompletion", dict(_MESSAGES)
    ),
    (f"{_ACCOUNT}/v1/completions", "post"): _openai(
        "completions", "A prompt, as OpenAI has it", "Completion", {"prompt": TEXT}
    ),
    (f"{_ACCOUNT}/v1/responses", "post"): _openai(
        "responses", "A response, as OpenAI has it", "Response", {"input": {"anyOf": [TEXT, a_list({})]}}
    ),
    (f"{_ACCOUNT}/v1/embeddings", "post"): _openai(
        "embeddings", "Embeddings, as OpenAI has them", "EmbeddingsList", {"input": ANY}, streams=False
    ),
    (f"{_ACCOUNT}/v1/models", "get"): Operation(
        "openaiModels",
        "OpenAI",
        "The models that run here",
        gives=an_object({"object": {"const": "list"}, "data": a_list(ref("OpenAIModel"))}),
        identified=False,
    ),
    (f"{_ACCOUNT}/v1/models/{{model}}", "get"): Operation(
        "openaiModel",
        "OpenAI",
        "One model",
        gives=ref("OpenAIModel"),
        statuses=(400,),
        failure="OpenAIFailure",
        identified=False,
    ),
}
LOCAL: dict[tuple[str, str], Operation] = {
    (f"{_LOCAL}/health", "get"): Operation(
        "health",
        "This roost",
        "Whether it is up",
        gives=an_object(
            {
                "status": {"const": "ok"},
                "live": BOOLEAN,
                "ready": BOOLEAN,
                "version": TEXT,
                "device": TEXT,
                "models": {"type": "object"},
            }
        ),
        identified=False,
    ),
    (f"{_LOCAL}/ps", "get"): Operation(
        "ps",
        "This roost",
        "What it has in memory, and the requests that run",
        gives=an_object({"loaded": a_list(ref("Loaded")), "requests": a_list(ref("Recent"))}),
        identified=False,
    ),
    (f"{_LOCAL}/usage", "get"): Operation(
        "usage",
        "This roost",
        "What it was asked",
        gives=an_object({"models": a_list(ref("UsageRow"))}),
        identified=False,
    ),
    (f"{_LOCAL}/status.json", "get"): Operation(
        "status",
        "Pages",
        "What runs, and the last requests with their times",
        gives=an_object(
            {
                "version": TEXT,
                "device": TEXT,
                "memory_megabytes": _COUNT,
                "loaded": a_list(ref("Loaded")),
                "usage": a_list(ref("UsageRow")),
                "recent": a_list(ref("Recent")),
            }
        ),
        identified=False,
    ),
    (f"{_LOCAL}/models.json", "get"): Operation(
        "browseModels",
        "Pages",
        "The list of models with its facets",
        gives=an_object(
            {
                "words": TEXT,
                "total": _COUNT,
                "count": _COUNT,
                "facets": a_list(ref("Facet")),
                "models": a_list(ref("Summary")),
            }
        ),
        query={"q": TEXT, **_BROWSE},
        identified=False,
    ),
    (f"{_LOCAL}/models/{{model}}.json", "get"): Operation(
        "model", "Pages", "A model's page", gives=ref("Summary"), statuses=(404,), identified=False
    ),
    (f"{_LOCAL}/playground/{{model}}.json", "get"): Operation(
        "playground", "Pages", "A model's playground", gives=ref("Summary"), statuses=(404,), identified=False
    ),
    (f"{_LOCAL}/openapi.json", "get"): Operation(
        "openapi", "This roost", "This document", gives=an_object({"openapi": TEXT, "paths": ANY}), identified=False
    ),
}
OPERATIONS = {**CLOUDFLARE, **OPENAI, **LOCAL}
LEFT_OUT = {
    "/": "where miniflare packs requests, and a browser's way in",
    "/run": "the binding's wire, for workerd alone",
    "/ai-api/": "the binding's wire",
    "/to-everything/": "the binding's wire",
    "/autorag/": "the binding's wire",
    "/ai-gateway/": "the binding's wire",
    "/client/v4/accounts/{account}/ai/run/proxy": "the wire as old wranglers pack it",
    "/client/v4/accounts/{account}/ai/run/{model:path}": "described card by card",
    "/cdn-cgi/local/preview/": "the session that wrangler opens",
    "/client/v4/accounts": "what wrangler asks of an account",
    "/client/v4/memberships": "what wrangler asks of an account",
    "/client/v4/user": "what wrangler asks of an account",
    "/cdn-cgi/local/metrics": "Prometheus' text, not JSON",
    "/cdn-cgi/local": "pages for people, described by their twins",
}
"""By the beginning of the path: routes that the document says nothing of."""
