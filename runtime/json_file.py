"""JSON files beside weights, which come from outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runtime.errors import ArtifactError


def read_json(path: Path) -> Any:
    """The value in a JSON file, an empty object where there is no file; :class:`ArtifactError` for what isn't JSON."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path.name} is not readable: {error}") from error


def json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file, as :func:`read_json` gives it; :class:`ArtifactError` for another value."""
    stated = read_json(path)
    if not isinstance(stated, dict):
        raise ArtifactError(f"{path.name} is not an object")
    return stated
