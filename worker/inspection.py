"""What a running roost says of itself: what it has in memory, as rows of JSON. Knows no route."""

from __future__ import annotations

import time
from typing import Any

from runtime.pool import LoadedModel
from worker.bindings import AI


def loaded_rows(ai: AI) -> list[dict[str, Any]]:
    """A row per loaded artifact."""
    return [_row(model) for model in ai.loaded()]


def _row(model: LoadedModel) -> dict[str, Any]:
    stats, manifest = model.stats(), model.artifact.manifest
    return {
        "names": sorted(model.names),
        "weights": manifest.weights,
        "precision": manifest.precision,
        "kv": manifest.kv,
        "stand_in": manifest.stand_in,
        "device": str(model.device),
        "chip": model.device.chip,
        "same_words": model.same_words,
        "running": stats.running,
        "waiting": stats.waiting,
        "cached_tokens": stats.cached_tokens,
        "generated_tokens": stats.generated_tokens,
        "kept_tokens": stats.kept_tokens,
        "preemptions": stats.preemptions,
        "drafted_tokens": stats.drafted,
        "accepted_tokens": stats.accepted,
        "adapters": [
            {"name": adapter.name, "rank": adapter.rank, "megabytes": round(adapter.size / 1e6, 1)}
            for adapter in model.adapters.loaded()
        ],
        "megabytes": round(model.artifact.size / 1e6),
        "idle_seconds": 0.0 if stats.running or stats.waiting else round(model.idle_seconds, 1),
        "loaded_seconds": round(time.monotonic() - model.loaded_at, 1),
    }
