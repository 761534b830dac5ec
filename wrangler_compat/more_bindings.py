"""Vectorize, queues, datasets, rate limits, version metadata: what a Python Worker's configuration says, checked."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from worker.bindings.analytics import AnalyticsDataset
from worker.bindings.analytics_file import AnalyticsFile
from worker.bindings.binding import Binding
from worker.bindings.queues import Bells, Queue
from worker.bindings.rate_limit import PERIODS, RateLimit
from worker.bindings.vectorize import Vectorize
from worker.bindings.vectorize_file import BadIndex, VectorIndexFile, check_index
from worker.bindings.version_metadata import VersionMetadata
from worker.queues import Consumer
from wrangler_compat.diagnostics import Diagnostics
from wrangler_compat.queue_settings import consumers, producers

VECTORIZE = "vectorize"
"""The folder of the indexes, in roost's own state."""
QUEUES = "queues.sqlite"
"""The file of all queues, there."""
ANALYTICS = "analytics.sqlite"
"""The file of all Analytics Engine datasets, there."""
_DATASET = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_INDEX = re.compile(r"[a-z](?:[a-z0-9-]{0,62}[a-z0-9])?")


_Index: TypeAlias = tuple[str, int | None, str | None]


@dataclass(frozen=True, slots=True)
class More:
    """Bindings by their names. ``indexes``: index, dimensions and metric. ``rates``: namespace, limit and period.

    ``queues``: queue and delay. ``datasets``: of Analytics Engine.
    """

    indexes: dict[str, _Index] = field(default_factory=dict)
    rates: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    version: str | None = None
    queues: dict[str, tuple[str, int]] = field(default_factory=dict)
    consumers: tuple[Consumer, ...] = ()
    datasets: dict[str, str] = field(default_factory=dict)


def read_more(settings: Mapping[str, Any], found: Diagnostics) -> More:
    """What ``settings`` say; mistakes go to ``found``."""
    version = settings.get("version_metadata")
    told = version.get("binding") if isinstance(version, Mapping) else None
    if version is not None and not isinstance(told, str):
        found.error('version_metadata needs a "binding"', "version_metadata")
    made = dict(_indexes(settings, found)), dict(_rates(settings, found)), told
    queues = dict(producers(settings, found)), tuple(consumers(settings, found))
    return More(*made, *queues, dict(_datasets(settings, found)))


def _indexes(settings: Mapping[str, Any], found: Diagnostics) -> Iterator[tuple[str, _Index]]:
    for entry in _tables(settings, "vectorize", found):
        name, index = entry.get("binding"), entry.get("index_name")
        if not isinstance(name, str) or not isinstance(index, str):
            found.error('each of vectorize needs a "binding" and an "index_name"', "vectorize")
            continue
        if not is_index_name(index):
            found.error(f"{index!r} is no index's name: small letters, digits and -, 64 at most", "vectorize", index)
        for key in entry:
            if key not in ("binding", "index_name", "dimensions", "metric", "remote"):
                found.unknown(key, ("binding", "index_name", "dimensions", "metric"), "vectorize")
        dimensions, metric = entry.get("dimensions"), entry.get("metric")
        try:
            if dimensions is not None or metric is not None:
                check_index(dimensions, metric)
        except BadIndex as error:
            found.error(f"{name}: {error}", "vectorize", "binding")
        yield name, (index, dimensions, metric)


def _rates(settings: Mapping[str, Any], found: Diagnostics) -> Iterator[tuple[str, tuple[str, int, int]]]:
    for entry in _rate_entries(settings, found):
        simple = entry.get("simple")
        limit, period = (simple.get("limit"), simple.get("period")) if isinstance(simple, Mapping) else (None, None)
        name, space = entry.get("name"), entry.get("namespace_id")
        if not isinstance(name, str) or space is None:
            found.error('each rate limit needs a "name" and a "namespace_id"', "ratelimits")
        elif not isinstance(limit, int) or limit < 1 or period not in PERIODS:
            found.error(f"{name} needs simple = {{ limit = N, period = 10 or 60 }}, and N of 1 or more", "ratelimits")
        else:
            yield name, (str(space), limit, int(period))


def _datasets(settings: Mapping[str, Any], found: Diagnostics) -> Iterator[tuple[str, str]]:
    for entry in _tables(settings, "analytics_engine_datasets", found):
        name = entry.get("binding")
        if not isinstance(name, str):
            found.error('each of analytics_engine_datasets needs a "binding"', "analytics_engine_datasets")
            continue
        dataset = str(entry.get("dataset") or name)
        if not _DATASET.fullmatch(dataset):
            sentence = f"{dataset!r} is no dataset's name: letters, digits and _, no digit first, 100 at most"
            found.error(sentence, "analytics_engine_datasets", dataset)
        for key in entry:
            if key not in ("binding", "dataset"):
                found.unknown(key, ("binding", "dataset"), "analytics_engine_datasets")
        yield name, dataset


@dataclass(slots=True)
class Shared:
    """What the Workers of one roost share: rate limits, and what wakes the consumers of queues."""

    rates: dict[tuple[str, int, int], RateLimit] = field(default_factory=dict)
    bells: Bells = field(default_factory=lambda: defaultdict(asyncio.Event))


def more_bindings(more: More, state: Path, shared: Shared) -> dict[str, Binding]:
    """The bindings, with their files in the folder ``state``."""
    found: dict[str, Binding] = {}
    for name, (index, dimensions, metric) in more.indexes.items():
        file = VectorIndexFile(state / VECTORIZE, index)
        if dimensions is not None and metric is not None and file.index() is None:
            file.create(dimensions, metric)
        found[name] = Vectorize(file)
    for name, (space, limit, period) in more.rates.items():
        found[name] = shared.rates.setdefault((space, limit, period), RateLimit(limit, period))
    for name, (queue, delay) in more.queues.items():
        found[name] = Queue(state / QUEUES, queue, shared.bells, delay)
    for name, dataset in more.datasets.items():
        found[name] = AnalyticsDataset(AnalyticsFile(state / ANALYTICS), dataset)
    return found | ({more.version: VersionMetadata()} if more.version else {})


def is_index_name(name: str) -> bool:
    """Whether an index may be called this."""
    return _INDEX.fullmatch(name) is not None


def _rate_entries(settings: Mapping[str, Any], found: Diagnostics) -> Iterator[Mapping[str, Any]]:
    yield from _tables(settings, "ratelimits", found)
    unsafe = settings.get("unsafe")
    if isinstance(unsafe, Mapping):
        yield from (each for each in _tables(unsafe, "bindings", found) if each.get("type") == "ratelimit")


def _tables(settings: Mapping[str, Any], kind: str, found: Diagnostics) -> Iterator[Mapping[str, Any]]:
    given = settings.get(kind) or ()
    if not isinstance(given, list | tuple) or not all(isinstance(each, Mapping) for each in given):
        found.error(f'"{kind}" must be a list of tables, but it is {given!r}', kind)
        return
    yield from given
