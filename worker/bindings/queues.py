"""Queues, the producer's side: ``env.QUEUE``, asked by ``worker/isolate/js_queues.py``.

developers.cloudflare.com/queues/configuration/javascript-apis and /queues/platform/limits.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, TypeAlias

from worker.bindings.binding import Binding, BindingError
from worker.bindings.queue_file import QueueFile, Sent

MESSAGE, BATCH, MANY = 128_000, 256_000, 100  # bytes of a message, of a batch; messages in it
DELAY = 12 * 3600  # seconds at most
KINDS = ("text", "bytes", "json", "v8")
Bells: TypeAlias = defaultdict[str, asyncio.Event]
"""What wakes the consumer of a queue, by the queue's name."""


class Queue(Binding):
    """The producer of ``queue`` in the file ``path``. ``delay``: seconds for messages that name none."""

    def __init__(self, path: Path, queue: str, bells: Bells, delay: int = 0) -> None:
        self._file = QueueFile(path)
        self._queue, self._bells, self._delay = queue, bells, delay

    def described(self) -> dict[str, Any]:
        """See :meth:`Binding.described`."""
        return {"kind": "queue"}

    async def call(self, method: str, args: list[Any]) -> Any:
        """``send`` of ``{"kind": …, "body": bytes, "delay": seconds}``, ``sendBatch`` of a list of them and a delay."""
        if method == "send":
            messages, usual = [args[0]], self._delay
        elif method == "sendBatch":
            messages, given = args
            usual = self._delay if given is None else _delay(given)
            _check_batch([len(each["body"]) for each in messages])
        else:
            return await super().call(method, args)
        self._file.send(self._queue, [_sent(each, usual) for each in messages], int(time.time() * 1000))
        self._bells[self._queue].set()
        return None

    async def aclose(self) -> None:
        """Close the file."""
        self._file.close()


def _sent(message: dict[str, Any], usual: int) -> Sent:
    body, kind, delay = message["body"], message["kind"], message["delay"]
    if len(body) > MESSAGE:
        raise _refusal(f"message length of {len(body)} bytes exceeds limit of {MESSAGE}")
    return Sent(kind, body, usual if delay is None else _delay(delay))


def _check_batch(sizes: list[int]) -> None:
    if len(sizes) > MANY:
        raise _refusal(f"batch message count of {len(sizes)} exceeds limit of {MANY}")
    if sum(sizes) > BATCH:
        raise _refusal(f"batch size of {sum(sizes)} bytes exceeds limit of {BATCH}")


def _delay(given: Any) -> int:
    if not is_delay(given):
        raise _refusal(f"delaySeconds is a whole number from 0 to {DELAY}, and not {given!r}")
    return int(given)


def is_delay(given: Any) -> bool:
    """Whether a message can be held back for so long."""
    number = isinstance(given, int | float) and not isinstance(given, bool)
    return number and 0 <= given <= DELAY and given == int(given)


def _refusal(sentence: str) -> BindingError:
    return BindingError(f"Queue send failed: {sentence}")
