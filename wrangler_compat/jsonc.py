"""JSON with comments and trailing commas, as wrangler's configuration is written."""

from __future__ import annotations

import json
import re
from typing import Any

_TOKENS = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/|,(?=(?:\s|//[^\n]*|/\*.*?\*/)*[}\]])', re.DOTALL)


def parse_jsonc(text: str) -> Any:
    """The value in ``text``. Raises ``ValueError`` whose line and column are those of ``text``."""
    return json.loads(_TOKENS.sub(_blank, text.removeprefix("\ufeff")))


def _blank(found: re.Match[str]) -> str:
    """A string as it is; a comment or a comma too many as spaces, its line breaks kept."""
    token = found[0]
    return token if token.startswith('"') else re.sub(r"[^\n]", " ", token)
