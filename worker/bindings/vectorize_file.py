"""The SQLite file of a Vectorize index, and its vectors in memory, as exact search wants them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from worker.bindings.sqlite_file import SqliteFile

Floats: TypeAlias = NDArray[np.float32]
DIMENSIONS = 1536  # at most
METRICS = ("cosine", "euclidean", "dot-product")
MISSING = "there is no index {name}: roost vectorize create {name} --dimensions N --metric cosine"
_TABLES = """CREATE TABLE IF NOT EXISTS about (
    dimensions INTEGER, metric TEXT, description TEXT, made TEXT, changed TEXT, mutation TEXT);
CREATE TABLE IF NOT EXISTS vectors (
    id TEXT PRIMARY KEY, numbers BLOB NOT NULL, namespace TEXT, metadata TEXT);"""


class BadIndex(ValueError):
    """An index that can't be, or isn't; one sentence says why."""


@dataclass(frozen=True, slots=True)
class Index:
    """What an index is. ``changed`` and ``mutation``: of its last change."""

    dimensions: int
    metric: str
    description: str
    made: str
    changed: str | None
    mutation: str | None


@dataclass(frozen=True, slots=True)
class Vector:
    """A vector. ``values``: float32[dimensions]."""

    id: str
    values: Floats
    namespace: str | None
    metadata: dict[str, Any] | None

    def whole(self) -> dict[str, Any]:
        """All of it, as a Worker gets it."""
        found: dict[str, Any] = {"id": self.id, "values": self.values.tolist()}
        found |= {} if self.namespace is None else {"namespace": self.namespace}
        return found | ({} if self.metadata is None else {"metadata": self.metadata})


def check_index(dimensions: Any, metric: Any) -> None:
    """Raise :class:`BadIndex` where no index is like this."""
    if isinstance(dimensions, bool) or not isinstance(dimensions, int) or not 1 <= dimensions <= DIMENSIONS:
        raise BadIndex(f"an index has 1 to {DIMENSIONS} dimensions, and not {dimensions!r}")
    if metric not in METRICS:
        raise BadIndex(f"a metric is one of {', '.join(METRICS)}, and not {metric!r}")


class VectorIndexFile(SqliteFile):
    """The index ``name`` in ``folder``; several processes may have it open."""

    tables = _TABLES

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder / f"{name}.sqlite")
        self.name = name
        self._held: tuple[tuple[int, int], list[Vector], Floats] | None = None

    def create(self, dimensions: int, metric: str, description: str = "") -> Index:
        """Make the index; raises :class:`BadIndex`."""
        check_index(dimensions, metric)
        if self.index() is not None:
            raise BadIndex(f"there is an index {self.name} already")
        db = self._opened()
        row = (dimensions, metric, description, _now())
        db.execute("INSERT INTO about SELECT ?, ?, ?, ?, NULL, NULL WHERE NOT EXISTS (SELECT 1 FROM about)", row)
        found = self.index()
        assert found is not None
        return found

    def index(self) -> Index | None:
        """What it is; ``None`` where it hasn't been created."""
        if not self.path.exists():
            self.close()
            return None
        row = self._opened().execute("SELECT * FROM about").fetchone()
        return None if row is None else Index(*row)

    def count(self) -> int:
        """How many vectors it has."""
        return int(self._opened().execute("SELECT count(*) FROM vectors").fetchone()[0])

    def write(self, vectors: Sequence[Vector], *, over: bool) -> str:
        """Put them in, in place of those with their ids, or not where those are; the change's name."""
        verb = "REPLACE" if over else "IGNORE"
        rows = [
            (
                each.id,
                each.values.tobytes(),
                each.namespace,
                None if each.metadata is None else json.dumps(each.metadata),
            )
            for each in vectors
        ]
        return self._changed(f"INSERT OR {verb} INTO vectors VALUES (?, ?, ?, ?)", rows)

    def delete(self, ids: Sequence[str]) -> str:
        """Take out those with these ids; the change's name."""
        return self._changed("DELETE FROM vectors WHERE id=?", [(each,) for each in ids])

    def get(self, ids: Sequence[str]) -> list[Vector]:
        """Those with these ids, in their order."""
        marks = ",".join("?" * len(ids))
        rows = self._opened().execute(f"SELECT * FROM vectors WHERE id IN ({marks})", list(ids)).fetchall()
        found = {row[0]: _vector(row) for row in rows}
        return [found[each] for each in dict.fromkeys(ids) if each in found]

    def ranked(self, query: Floats, metric: str) -> Iterator[tuple[float, Vector]]:
        """Every vector with its score, the nearest first, equal ones by their ids.

        Scores are the platform's: cosine from -1 to 1, the euclidean distance, the dot product times -1.
        """
        vectors, matrix = self._all()
        scores, order = ranked(matrix, query, metric)
        for place in order:
            yield float(scores[place]), vectors[place]

    def close(self) -> None:
        """Close the file, and forget the vectors that were read."""
        super().close()
        self._held = None

    def _changed(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> str:
        name, db = str(uuid.uuid4()), self._opened()
        db.execute("BEGIN IMMEDIATE")
        with db:
            db.executemany(sql, rows)
            db.execute("UPDATE about SET changed=?, mutation=?", (_now(), name))
        return name

    def _all(self) -> tuple[list[Vector], Floats]:
        db = self._opened()
        version = (int(db.execute("PRAGMA data_version").fetchone()[0]), db.total_changes)  # others', our own
        if self._held is None or self._held[0] != version:
            vectors = [_vector(row) for row in db.execute("SELECT * FROM vectors ORDER BY id")]
            matrix = np.stack([each.values for each in vectors]) if vectors else np.empty((0, 0), np.float32)
            self._held = version, vectors, matrix
        return self._held[1], self._held[2]


def ranked(matrix: Floats, query: Floats, metric: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The scores of the rows of ``matrix`` (float32[n, dimensions]), and the rows' order, the nearest first."""
    if not len(matrix):
        return np.empty(0), np.empty(0, np.int64)
    rows, vector = matrix.astype(np.float64), query.astype(np.float64)
    if metric == "euclidean":
        scores = np.sqrt(((rows - vector) ** 2).sum(1))
    else:
        scores = rows @ vector
        if metric == "dot-product":
            scores = -scores
        else:
            sizes = np.linalg.norm(rows, axis=1) * np.linalg.norm(vector)
            scores = np.divide(scores, sizes, out=np.zeros_like(scores), where=sizes > 0)
    order: NDArray[np.int64] = np.argsort(-scores if metric == "cosine" else scores, kind="stable")
    return scores, order


def _vector(row: tuple[Any, ...]) -> Vector:
    metadata = None if row[3] is None else json.loads(row[3])
    return Vector(row[0], np.frombuffer(row[1], np.float32), row[2], metadata)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
