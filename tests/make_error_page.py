"""Writes docs/errors.md from the table of errors: ``python -m tests.make_error_page``."""

from __future__ import annotations

import inspect
from pathlib import Path

from worker.errors import CODES, UNFORESEEN, Code

PAGE = Path(__file__).parent.parent / "docs" / "errors.md"
_HEAD = """# Errors

Every door gives the same code, HTTP status and words: REST and OpenAI in Cloudflare's envelope, the binding as its own
exception, Python as `AiError`. Codes from 5900 to 5999 are roost's own, for what the platform can't run into.
`{fault}` stands for the sentence that says what happened. This page is made from the table in `worker/errors.py` by
`python -m tests.make_error_page`.

| code | HTTP | message | when |
|---|---|---|---|
"""


def error_page() -> str:
    """The page as it should be."""
    rows = sorted(((row, kind) for kind, row in CODES.items()), key=lambda pair: (pair[0].internal, pair[1].__name__))
    lines = [_line(row, inspect.getdoc(kind) or "") for row, kind in rows]
    return _HEAD + "\n".join([*lines, _line(UNFORESEEN, "A defect of roost's, whose traceback is in its log.")]) + "\n"


def _line(row: Code, doc: str) -> str:
    when = " ".join(doc.split("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")
    return f"| {row.internal} | {row.status} | {row.lead}: {row.text or '{fault}'} | {when} |"


if __name__ == "__main__":
    PAGE.write_text(error_page(), encoding="utf-8")
