"""Queues of a Python Worker: what its configuration says of producers and consumers, checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from worker.bindings.queues import DELAY, is_delay
from worker.queues import Consumer
from wrangler_compat.diagnostics import Diagnostics

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PRODUCER = ("binding", "queue", "delivery_delay", "remote")
_RANGES = {  # of a consumer: the least, the most and the usual
    "max_batch_size": (1, 100, 10),
    "max_batch_timeout": (0, 60, 5),
    "max_retries": (0, 100, 3),
    "retry_delay": (0, DELAY, 0),
}
_CONSUMER = ("queue", "type", "dead_letter_queue", "max_concurrency", *_RANGES)


def producers(settings: Mapping[str, Any], found: Diagnostics) -> Iterator[tuple[str, tuple[str, int]]]:
    """Bindings with their queue and its delay in seconds; mistakes go to ``found``."""
    for entry in _entries(settings, "producers", found):
        name, queue, delay = entry.get("binding"), entry.get("queue"), entry.get("delivery_delay", 0)
        _unknown(entry, _PRODUCER, "producers", found)
        if not isinstance(name, str) or not isinstance(queue, str):
            found.error('each of queues.producers needs a "binding" and a "queue"', "queues", "producers")
        elif not _named(queue, found) or not is_delay(delay):
            if not is_delay(delay):
                found.error(f"delivery_delay is 0 to {DELAY} seconds, and not {delay!r}", "queues", "delivery_delay")
        else:
            yield name, (queue, int(delay))


def consumers(settings: Mapping[str, Any], found: Diagnostics) -> Iterator[Consumer]:
    """The queues that the Worker consumes; mistakes go to ``found``."""
    seen: set[str] = set()
    for entry in _entries(settings, "consumers", found):
        queue, dead = entry.get("queue"), entry.get("dead_letter_queue")
        _unknown(entry, _CONSUMER, "consumers", found)
        if not isinstance(queue, str):
            found.error('each of queues.consumers needs a "queue"', "queues", "consumers")
            continue
        if entry.get("type", "worker") != "worker":
            found.error(f"{queue} is pulled over HTTP, which roost doesn't have", "queues", "consumers", queue)
        if queue in seen:
            found.error(f"{queue} has two consumers, and a queue has one", "queues", "consumers", queue)
        seen.add(queue)
        size, timeout, retries, delay = (_number(entry, key, found) for key in _RANGES)
        if _named(queue, found) and (dead is None or _named(dead, found)):
            yield Consumer(queue, size, timeout, retries, delay, dead)


def two_consumers(workers: Sequence[tuple[str, Sequence[Consumer]]]) -> Iterator[str]:
    """A sentence for each queue that two Workers consume."""
    seen: dict[str, str] = {}
    for name, consumed in workers:
        for each in consumed:
            if seen.setdefault(each.queue, name) != name:
                yield f"{each.queue} is consumed by {seen[each.queue]} and by {name}, and a queue has one consumer"


def _entries(settings: Mapping[str, Any], kind: str, found: Diagnostics) -> Iterator[Mapping[str, Any]]:
    queues = settings.get("queues") or {}
    given = queues.get(kind) or () if isinstance(queues, Mapping) else None
    if not isinstance(given, list | tuple) or not all(isinstance(each, Mapping) for each in given):
        if isinstance(queues, Mapping) or kind == "producers":  # said once where all of it is wrong
            found.error('"queues" must be a table with lists of "producers" and "consumers"', "queues")
        return
    yield from given


def _unknown(entry: Mapping[str, Any], known: Sequence[str], kind: str, found: Diagnostics) -> None:
    for key in entry:
        if key not in known:
            found.unknown(key, known, "queues", kind)


def _named(name: Any, found: Diagnostics) -> bool:
    if isinstance(name, str) and _NAME.fullmatch(name):
        return True
    found.error(f"{name!r} is no name of a queue: small letters, digits and -, 63 at most", "queues", str(name))
    return False


def _number(entry: Mapping[str, Any], key: str, found: Diagnostics) -> int:
    least, most, usual = _RANGES[key]
    value = entry.get(key)
    if value is None:
        return usual
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        found.error(f"{key} is a whole number from {least} to {most}, and not {value!r}", "queues", key)
        return usual
    return value
