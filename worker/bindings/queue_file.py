"""The SQLite file of a project's queues: their messages until they are acknowledged. Knows no Worker."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from worker.bindings.sqlite_file import SqliteFile

_TABLE = """CREATE TABLE IF NOT EXISTS messages (
    place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, queue TEXT NOT NULL, type TEXT NOT NULL,
    body BLOB NOT NULL, sent INTEGER NOT NULL, due INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS due ON messages (queue, due, place);"""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that is sent. ``kind``: its content type, ``delay``: seconds."""

    kind: str
    body: bytes
    delay: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """A message in a queue. ``sent``: milliseconds since 1970; ``attempts``: deliveries that failed."""

    id: str
    kind: str
    body: bytes
    sent: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Settled:
    """What becomes of delivered messages, by their ids. ``again``: the delays in seconds."""

    done: Sequence[str] = ()
    again: Mapping[str, int] | None = None
    dead: Sequence[str] = ()


class QueueFile(SqliteFile):
    """The queues in the file ``path``, which several may have open. Moments are milliseconds since 1970."""

    tables = _TABLE

    def send(self, queue: str, messages: Iterable[Sent], now: int) -> None:
        """Keep all of ``messages``, or none."""
        rows = [(secrets.token_hex(16), queue, each.kind, each.body, now, now + 1000 * each.delay) for each in messages]
        db = self._opened()
        db.execute("BEGIN IMMEDIATE")
        with db:
            db.executemany("INSERT INTO messages (id, queue, type, body, sent, due) VALUES (?, ?, ?, ?, ?, ?)", rows)

    def due(self, queue: str, now: int) -> tuple[int, int | None]:
        """How many messages may be delivered, and when the first could be, or could have been."""
        query = "SELECT count(*) FILTER (WHERE due <= ?), min(due) FROM messages WHERE queue = ?"
        count, first = self._opened().execute(query, (now, queue)).fetchone()
        return count, first

    def batch(self, queue: str, size: int, now: int) -> list[Kept]:
        """The messages that are due, ``size`` at most, those that have been longest first. They stay in the queue."""
        query = (
            "SELECT id, type, body, sent, attempts FROM messages WHERE queue = ? AND due <= ? "
            "ORDER BY due, place LIMIT ?"
        )
        return [Kept(*row) for row in self._opened().execute(query, (queue, now, size))]

    def settle(self, settled: Settled, now: int, dead_letters: str | None = None) -> None:
        """Forget what is done, keep what comes again, move the dead to ``dead_letters`` or drop them: all at once."""
        again = [(now + 1000 * delay, each) for each, delay in (settled.again or {}).items()]
        db = self._opened()
        db.execute("BEGIN IMMEDIATE")
        with db:
            db.executemany("DELETE FROM messages WHERE id = ?", [(each,) for each in settled.done])
            db.executemany("UPDATE messages SET due = ?, attempts = attempts + 1 WHERE id = ?", again)
            if dead_letters is None:
                db.executemany("DELETE FROM messages WHERE id = ?", [(each,) for each in settled.dead])
            else:
                moved = [(dead_letters, now, each) for each in settled.dead]
                db.executemany("UPDATE messages SET queue = ?, due = ?, attempts = 0 WHERE id = ?", moved)
