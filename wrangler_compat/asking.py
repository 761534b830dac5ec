"""Asks the roost that runs here what it says of itself."""

from __future__ import annotations

from typing import Any

import httpx

from runtime.artifacts import ArtifactStore
from runtime.errors import NoWeights
from wrangler_compat.running import Running, find_running
from wrangler_compat.serving import run_folder


def ask_running(what: str) -> tuple[Running, dict[str, Any]]:
    """The roost that runs here, and what it says under ``/cdn-cgi/local/``; :class:`NoWeights` where none answers."""
    running = find_running(run_folder(ArtifactStore()))
    if running is None:
        raise NoWeights("no roost is running here: type roost serve")
    headers = {"authorization": f"Bearer {running.token}"} if running.token else {}
    try:
        answer = httpx.get(f"{running.url}/cdn-cgi/local/{what}", headers=headers).raise_for_status()
    except httpx.HTTPError as error:
        raise NoWeights(f"roost {running.pid} at {running.url} doesn't answer: {error}") from error
    told: dict[str, Any] = answer.json()
    return running, told
