"""What the published SDK has, and what becomes of it in roost: the source of docs/coverage.md."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from wrangler_compat.python_project import HAVE, KINDS

_SPEC = importlib.util.find_spec("workers")
assert _SPEC is not None
assert _SPEC.origin is not None
FOLDER = Path(_SPEC.origin).parent
VERSION = importlib.metadata.version("workers-runtime-sdk")
MODULES = (
    *("entrypoints", "request", "response", "blob", "formdata", "fetch", "rpc", "utils"),
    *("asgi", "wsgi", "gateway.options", "workflows"),
)
_HELPERS = ("get_compat_flag", "import_sdk_javascript_module_async")

MISSING = {
    "entrypoints.DurableObject": "no Durable Objects: see `durable_objects` below",
    "entrypoints.DurableObjectContext": "no Durable Objects: see `durable_objects` below",
    "entrypoints.WorkflowEntrypoint": "Workflows are not in roost yet",
    "entrypoints.DurableObjectAbort": "no Durable Objects: see `durable_objects` below",
    "workflows.NonRetryableError": "Workflows are not in roost yet",
}
DIFFERS = {
    "entrypoints.WorkerEntrypoint": "`fetch`, `scheduled`, `queue` and methods called over RPC; no `tail`, `email`",
    "entrypoints.handler": "for `on_fetch`, `on_scheduled` and `on_queue`; no other handler is called",
    "utils.import_from_javascript": "`cloudflare:workers` alone (`env`, `waitUntil`)",
    "fetch.fetch": "`cf` is taken and has no effect",
    "wsgi.fetch": "the body is read while other requests go on, but two such reads end last-begun-first",
    "asgi.close_stream_quietly": "called when an application breaks off a streaming response",
}
JS_MISSING = (
    *("CompressionStream", "DecompressionStream", "EventSource"),
    *(
        "DataView",
        "BigInt64Array",
        "Math",
        "Number",
        "String",
        "RegExp",
        "Symbol",
        "eval",
        "Function",
        "MessageChannel",
    ),
)
JS_DIFFERS = {
    "crypto": "`randomUUID`, `getRandomValues`, `subtle.digest`, `subtle.timingSafeEqual`; no keys",
    "Date": "`now`, `parse`, `getTime`, `valueOf`, `toISOString` and the `getUTC…` of year to second",
    "URL": "parsed by Python's urllib and normalised, which differs from WHATWG's for odd addresses",
    "Object": "`fromEntries`, `keys`, `values`, `entries`, `assign`",
    "WebSocket": "a close is always answered but after `accept(allowHalfOpen=True)`; no hibernation",
    "WebSocketPair": "the same",
    "HTMLRewriter": "content is a string; text is cut elsewhere; tags above 256 KiB pass unseen; HTML alone",
    "Event": "`type`, `target` and what it is made with",
    "FixedLengthStream": "R2 alone checks the length",
    "caches": "`default` and `open`, in one SQLite file; `cache-control` alone decides how long",
}
BINDINGS = {
    "ai": ("works", "`run`, `models`, `toMarkdown`, `gateway`, `fetch`; `autorag` raises an error"),
    "vars": ("works", "with `.dev.vars` or `.env` over them"),
    "kv_namespaces": (
        "works",
        "`get` (also of many keys), `getWithMetadata`, `put`, `delete`, `list`; `cacheTtl` changes nothing",
    ),
    "d1_databases": (
        "differs",
        "`prepare`, `bind`, `all`, `run`, `raw`, `first`, `batch`, `exec`, `withSession`; `rows_read` and "
        "`rows_written` are lower bounds, `dump` fails",
    ),
    "r2_buckets": (
        "differs",
        "`head`, `get`, `put`, `delete`, `list`, uploads in parts; no storage class but Standard, no `ssecKey`",
    ),
    "vectorize": (
        "differs",
        "`describe`, `insert`, `upsert`, `query`, `queryById`, `getByIds`, `deleteByIds`; filters need no metadata "
        "index; what is written is found at once",
    ),
    "ratelimits": ("works", "`limit`; `unsafe` bindings of type ratelimit, too"),
    "queues": (
        "differs",
        "`send`, `sendBatch`; consumers with batches, retries, delays and dead letters, one batch after another; none "
        "that pull over HTTP",
    ),
    "analytics_engine_datasets": ("works", "`writeDataPoint`; asked in SQLite's SQL, by `roost analytics query`"),
    "version_metadata": ("works", "a new `id` at each start, an empty `tag`"),
    "durable_objects": (
        "missing",
        "one instance per id, gates, atomic writes and alarms hold only together, so there is no half of them: a "
        "class of them is never made, and no state is kept",
    ),
    "assets": (
        "works",
        "files, `_headers`, `_redirects`, `html_handling`, `not_found_handling`, `run_worker_first`",
    ),
    "services": (
        "differs",
        "Workers of this `roost dev`; `fetch`, `entrypoint`, `props`, and methods whose values are what structured "
        "clone takes, Request, Response, Headers and ReadableStream; no functions, RpcTargets, WritableStreams",
    ),
}


def members() -> Iterator[str]:
    """Every public class, method and function of the SDK, as ``module.Class.method``."""
    for module in MODULES:
        tree = ast.parse((FOLDER / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or _hidden(node.name):
                continue
            yield f"{module}.{node.name}"
            for inner in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and not _hidden(inner.name):
                    yield f"{module}.{node.name}.{inner.name}"


def state(member: str) -> tuple[str, str]:
    """``works``, ``differs`` or ``missing``, and how."""
    above = member.rpartition(".")[0]
    for known, word in ((MISSING, "missing"), (DIFFERS, "differs")):
        if member in known:
            return word, known[member]
        if word == "missing" and above in known:
            return word, known[above]
    return "works", ""


def bindings() -> Iterator[tuple[str, str, str]]:
    """Every kind of binding, its state and how."""
    for kind in sorted({*KINDS, "vars", "assets"}):
        word, how = BINDINGS.get(kind, ("missing", ""))
        assert (word == "missing") == (kind not in HAVE)
        yield kind, word, how


def _hidden(name: str) -> bool:
    return name.startswith("_") or name in _HELPERS
