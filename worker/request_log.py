"""One line for each request: wrangler's form, with the model, tokens and times behind it; or one JSON object.

Prompts and answers are in no line, unless prompts are asked for.
"""

from __future__ import annotations

import json
import logging
import time
from http import HTTPStatus
from typing import Any, Literal

from worker.recent import Entry

LogFormat = Literal["text", "json"]
_LONGEST_PROMPT = 2_000  # characters of one line
_log = logging.getLogger("roost.requests")


def tell(method: str, path: str, status: int, seconds: float, entries: list[Entry]) -> None:
    """Log a request that is over, with the runs of models that it led to."""
    if not _log.isEnabledFor(logging.INFO):  # under roost dev its lines are the Worker's
        return
    runs = [_facts(entry) for entry in entries]
    line = line_of(method, path, status, seconds)
    fields = {"method": method, "path": path, "status": status, "seconds": round(seconds, 4), "runs": runs}
    _log.info("%s", "; ".join([line, *map(_described, runs)]), extra={"fields": fields})


def line_of(method: str, path: str, status: int, seconds: float) -> str:
    """A request as wrangler logs it."""
    return f"{method} {path} {status} {_phrase(status)} ({seconds * 1000:.0f}ms)"


def _facts(entry: Entry) -> dict[str, Any]:
    row = entry.as_row()
    names = ("model", "request_id", "outcome", "code", "prompt_tokens", "cached_tokens", "completion_tokens")
    times = {"first": row["first"], "queued": row["queued"], "took": row["took"]}
    prompt = {} if entry.prompt is None else {"prompt": entry.prompt}
    return {**{name: row[name] for name in names}, **times, "tokens_per_second": row["tokens_per_second"], **prompt}


def _described(run: dict[str, Any]) -> str:
    parts = [run["model"]]
    if run["outcome"] == "failed":
        parts.append(f"error {run['code']}")
    else:
        parts.append(f"{run['prompt_tokens'] or 0}+{run['completion_tokens']} tokens")
    if run["first"] is not None:
        parts.append(f"first {run['first'] * 1000:.0f}ms")
    if run["tokens_per_second"] is not None:
        parts.append(f"{run['tokens_per_second']:.0f} tok/s")
    if run["outcome"] == "left":
        parts.append("client left")
    if "prompt" in run:
        parts.append(repr(run["prompt"]))
    return ", ".join(parts)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Client Closed Request"  # nginx's phrase for its 499


def prompt_of(inputs: object) -> str:
    """The inputs as a line of a log shows them, where prompts are asked for."""
    return json.dumps(inputs, ensure_ascii=False, default=str)[:_LONGEST_PROMPT]


class JsonLines(logging.Formatter):
    """Each record as a JSON object in a line: ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The object, with a traceback where there is one."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        told: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)


def set_up(*, level: int, form: LogFormat) -> None:
    """Send this process's log to the error stream, in ``form``."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter("[roost:%(levelname)s] %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
