"""Queues, the consumer's side: batches of messages to a Worker's ``queue`` handler, and what becomes of them.

developers.cloudflare.com/queues/configuration/batching-retries and /dead-letter-queues. A queue has one consumer, which
gets one batch after another.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.bindings.queue_file import Kept, QueueFile, Settled
from worker.bindings.queues import Bells, is_delay
from worker.front import Front
from worker.isolate_process import WorkerFault

_log = logging.getLogger("roost.worker")
_PAUSE = 2.0  # seconds until a Worker that didn't start is asked again


@dataclass(frozen=True, slots=True)
class Consumer:
    """How a Worker consumes ``queue``. ``size``: messages in a batch; ``timeout`` and ``delay``: seconds."""

    queue: str
    size: int = 10
    timeout: int = 5
    retries: int = 3
    delay: int = 0
    dead_letters: str | None = None


async def consume(path: Path, bells: Bells, consumer: Consumer, front: Front) -> None:
    """Deliver the messages of a queue in the file ``path`` to the Worker behind ``front``, until cancelled.

    What is being delivered then stays in the queue.
    """
    file, bell = QueueFile(path), bells[consumer.queue]
    try:
        while True:
            try:
                bell.clear()
                wait = patience(*file.due(consumer.queue, _now()), consumer, _now())
                if wait is None or wait > 0:
                    await _heard(bell, wait)
                elif await _started(front):
                    await _deliver(file, bells, consumer, front)
                else:
                    await asyncio.sleep(_PAUSE)
            except sqlite3.Error:  # a full disk, say: the messages are still there once it isn't
                _log.exception("the queue %s can't be read", consumer.queue)
                file.close()
                await asyncio.sleep(_PAUSE)
    finally:
        file.close()


def patience(count: int, first: int | None, consumer: Consumer, now: int) -> float | None:
    """Seconds until the next batch where ``count`` are due and the first since ``first``; ``None`` for no message."""
    if first is None:
        return None
    if count >= consumer.size:
        return 0
    return max(0, first + (1000 * consumer.timeout if count else 0) - now) / 1000


def settle(batch: Sequence[Kept], answer: Mapping[str, Any], consumer: Consumer) -> Settled:
    """What becomes of the messages of ``batch``.

    ``answer``: the messages' own decisions under ``messages`` (an id to ``{"retry": bool, "delay": …}``), which come
    before the batch's under ``all``; a ``fault`` means all the others again.
    """
    done, again, dead = [], {}, []
    failed: dict[str, Any] = {"retry": "fault" in answer}
    for message in batch:
        decision = answer["messages"].get(message.id) or answer["all"] or failed
        if not decision["retry"]:
            done.append(message.id)
        elif message.attempts >= consumer.retries:
            dead.append(message.id)
        else:
            delay = decision.get("delay")
            again[message.id] = int(delay) if delay is not None and is_delay(delay) else consumer.delay
    return Settled(done, again, dead)


async def _deliver(file: QueueFile, bells: Bells, consumer: Consumer, front: Front) -> None:
    batch, began = file.batch(consumer.queue, consumer.size, _now()), time.perf_counter()
    try:
        answer = await front.queue(consumer.queue, batch)
    except WorkerFault as fault:
        answer = {"messages": {}, "all": None, "fault": fault.told}
    if "fault" in answer:
        _log.error("%s", answer["fault"].get("traceback") or answer["fault"].get("message"))
    settled = settle(batch, answer, consumer)
    file.settle(settled, _now(), consumer.dead_letters)
    took = (time.perf_counter() - began) * 1000
    _log.info("queue %s: %d of %d messages done (%.0f ms)", consumer.queue, len(settled.done), len(batch), took)
    if settled.dead:
        fate = f"moved to {consumer.dead_letters}" if consumer.dead_letters else "dropped"
        for each in settled.dead:
            _log.warning("queue %s: message %s %s after %d attempts", consumer.queue, each, fate, consumer.retries + 1)
        if consumer.dead_letters:
            bells[consumer.dead_letters].set()


async def _started(front: Front) -> bool:
    """Whether there is a Worker to deliver to: a module that doesn't start must not cost messages their attempts."""
    try:
        await front.start()
    except WorkerFault as fault:
        _log.debug("a queue waits: %s", fault)
        return False
    return True


async def _heard(bell: asyncio.Event, seconds: float | None) -> None:
    try:
        await asyncio.wait_for(bell.wait(), seconds)
    except TimeoutError:
        return


def _now() -> int:
    return int(time.time() * 1000)
