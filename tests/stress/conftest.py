"""Which form runs, and where the figures go that docs/reliability.md shows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stress.arithmetic_model import write_arithmetic_artifact
from tests.stress.serving import Roost, serving

LONG = os.environ.get("STRESS") == "long"
"""``make stress`` sets it; elsewhere the short form runs."""
_FIGURES = os.environ.get("STRESS_FIGURES")
Figures = dict[str, object]


@pytest.fixture(scope="session")
def figures() -> Iterator[Figures]:
    """By what was counted: how much. Written where ``make stress`` asks for it."""
    counted: Figures = {}
    yield counted
    if _FIGURES:
        Path(_FIGURES).write_text(json.dumps(counted, indent=2), encoding="utf-8")


@pytest.fixture(scope="session")
def arithmetic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roost]:
    """A ``roost serve`` of 16 rows over the arithmetic model."""
    cache = tmp_path_factory.mktemp("cache")
    write_arithmetic_artifact(cache)
    with serving(cache, "--context", "512", "--json-everywhere") as roost:
        yield roost
