"""Mistakes in a wrangler configuration, shown together, each with its file and line. Knows no setting."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Diagnostics:
    """What is wrong in the configuration ``path``: ``errors`` stop, ``warnings`` don't."""

    path: Path
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def error(self, sentence: str, *keys: str) -> None:
        """``sentence`` about the setting under ``keys``."""
        self.errors.append(f"{self._where(keys)}: {sentence}")

    def warning(self, sentence: str, *keys: str) -> None:
        """The same for what doesn't stop."""
        self.warnings.append(f"{self._where(keys)}: {sentence}")

    def unknown(self, key: str, known: Iterable[str], *above: str) -> None:
        """A key that means nothing."""
        near = difflib.get_close_matches(key, list(known), 1)
        hint = f': did you mean "{near[0]}"?' if near else ""
        self.warning(f'unexpected setting "{".".join((*above, key))}"{hint}', *above, key)

    def _where(self, keys: tuple[str, ...]) -> str:
        line = line_of(self.path.read_text(encoding="utf-8"), keys, toml=self.path.suffix == ".toml")
        return f"{self.path.name}:{line}" if line else self.path.name


def line_of(text: str, keys: tuple[str, ...], *, toml: bool) -> int | None:
    """The line of a setting, found by its keys in their order, and at last by the name of one binding."""
    place, line = 0, None
    for key in keys:
        name = re.escape(key)
        pattern = rf"""^\s*(?:\[+[^\]\n]*\b{name}\b|["']?{name}["']?\s*=)""" if toml else rf'"{name}"\s*:'
        inline = rf"[{{,]\s*{name}\s*=" if toml else pattern
        patterns = (pattern, inline, rf"""["']{name}["']""")  # the last for a name that stands as a value
        tried = (re.compile(each, re.MULTILINE).search(text, place) for each in patterns)
        if (found := next(filter(None, tried), None)) is None:
            break
        place = found.start()
        line = text.count("\n", 0, found.end()) + 1
    return line
