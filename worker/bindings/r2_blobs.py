"""Bytes in files whose names nobody can guess: written once, read in ranges, deleted when no one reads them."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from worker.bindings.r2_rules import R2Error, check_size

_AT_ONCE = 1 << 18  # bytes read or written at a time; more than that goes through a thread


@dataclass(frozen=True, slots=True)
class Written:
    """A blob. ``digests``: in hex, by their algorithms, with md5 among them."""

    id: str
    size: int
    digests: dict[str, str]


class _Use:
    """What is being read in a folder, how often, and what goes after that: the same for all who have it open."""

    def __init__(self) -> None:
        self.read: Counter[str] = Counter()
        self.doomed: set[str] = set()


_KNOWN: WeakValueDictionary[str, _Use] = WeakValueDictionary()


class Blobs:
    """The blobs in ``folder``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._use = _KNOWN.setdefault(str(folder.resolve()), _Use())

    async def write(self, pieces: AsyncIterable[bytes], algorithms: Iterable[str] = ()) -> Written:
        """A new blob of ``pieces``. If they break off, nothing is left of it."""
        made = f"{secrets.token_hex(32)}{int(time.time() * 1000):016x}"
        hashes = {name: hashlib.new(name, usedforsecurity=False) for name in ("md5", *algorithms)}
        size, waiting = 0, bytearray()
        try:
            with (self._folder / made).open("wb", buffering=0) as file:

                def flush() -> None:
                    for each in hashes.values():
                        each.update(waiting)
                    file.write(waiting)
                    waiting.clear()

                async for piece in pieces:
                    size += len(piece)
                    check_size(size)
                    waiting += piece
                    if len(waiting) >= _AT_ONCE:
                        await _in_thread(flush)
                flush()
        except BaseException:
            self.delete([made])
            raise
        return Written(made, size, {name: each.hexdigest() for name, each in hashes.items()})

    async def read(self, blobs: Sequence[tuple[str, int]], offset: int, length: int) -> AsyncGenerator[bytes]:
        """``length`` bytes from ``offset`` on of what these blobs, each with its size, are together."""
        wanted = list(_cut(blobs, offset, length))
        self._use.read.update(name for name, _, _ in wanted)
        try:
            for name, start, left in wanted:
                with (self._folder / name).open("rb", buffering=0) as file:
                    file.seek(start)
                    while left:
                        size = min(left, _AT_ONCE)
                        piece = file.read(size) if length <= _AT_ONCE else await asyncio.to_thread(file.read, size)
                        if not piece:
                            raise R2Error(10001)
                        left -= len(piece)
                        yield piece
        finally:
            self._use.read.subtract(name for name, _, _ in wanted)
            self.delete(self._use.doomed.intersection(name for name, _, _ in wanted))

    def delete(self, blobs: Iterable[str]) -> None:
        """Delete blobs, those that are being read once they have been."""
        for name in blobs:
            if self._use.read[name] > 0:
                self._use.doomed.add(name)
                continue
            self._use.doomed.discard(name)
            del self._use.read[name]
            with suppress(FileNotFoundError):
                (self._folder / name).unlink()


async def _in_thread(work: Callable[[], None]) -> None:
    """Do ``work`` in a thread; whoever is cancelled meanwhile still waits for it, as it holds an open file."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        await working
        raise


def _cut(blobs: Sequence[tuple[str, int]], offset: int, length: int) -> Iterable[tuple[str, int, int]]:
    """The blobs that a range lies in, with where it starts in each and how much of it is there."""
    place = 0
    for name, size in blobs:
        start, end = max(offset, place), min(offset + length, place + size)
        if start < end:
            yield name, start - place, end - start
        place += size
