"""D1's laws: a batch is one step, a runaway query ends, several Workers share a database, limits hold."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.python_workers import serving
from worker.bindings import d1_file
from worker.bindings.binding import BindingError
from worker.bindings.d1 import D1Database
from worker.bindings.d1_file import PARAMETERS, STATEMENT, VALUE, D1Error, D1File, split

FOREVER = "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT count(*) FROM r"
WORKER = f"""
    from workers import Response, WorkerEntrypoint

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            db = self.env.DB
            if "slow" in request.url:
                await db.exec("CREATE TABLE begun (x)")
                await db.batch([db.prepare("INSERT INTO begun VALUES (1)"), db.prepare("{FOREVER}")])
            return Response.json(await db.prepare("SELECT name FROM sqlite_schema").raw())
"""
NUMBERS = st.integers(0, 6)


@given(batches=st.lists(st.lists(NUMBERS, min_size=1, max_size=5), max_size=6))
def test_a_batch_takes_effect_whole_or_not_at_all(batches: list[list[int]]) -> None:
    file = D1File(":memory:")
    file.run([("CREATE TABLE t (n INTEGER PRIMARY KEY)", ())])
    model: set[int] = set()
    for batch in batches:
        statements = [("INSERT INTO t VALUES (?)", (number,)) for number in batch]
        if len(set(batch)) == len(batch) and not model & set(batch):
            assert [result.meta["changes"] for result in file.run(statements)] == [1] * len(batch)
            model |= set(batch)
        else:
            with pytest.raises(D1Error, match="UNIQUE constraint failed"):
                file.run(statements)
        (found,) = file.run([("SELECT n FROM t ORDER BY n", ())])
        assert [row[0] for row in found.rows] == sorted(model)
    file.close()


PIECES = st.sampled_from(
    ["SELECT 1", "SELECT ';'", "/* ; */ SELECT 2", "-- ;\nSELECT 3", "CREATE TABLE a (b)", 'SELECT ";"']
)


@given(pieces=st.lists(PIECES, max_size=5), last=st.booleans())
def test_statements_are_told_apart(pieces: list[str], last: bool) -> None:
    text = ";".join(pieces) + (";" if last and pieces else "")
    assert [piece.removesuffix(";") for piece in split(text)] == pieces


@given(value=st.one_of(st.none(), st.text(), st.binary(), st.integers(-(2**53) + 1, 2**53 - 1), st.floats()))
def test_a_value_comes_back_as_javascript_would_have_it(value: object) -> None:
    file = D1File(":memory:")
    (result,) = file.run([("SELECT ?", (value,))])
    file.close()
    (found,) = result.rows[0]
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        assert found is None
    else:
        assert found == value or (value != value and found is None)


def test_limits_are_the_platforms() -> None:
    file = D1File(":memory:")
    file.run([("CREATE TABLE t (a)", ())])
    for sql, params, words in (
        (f"SELECT {','.join('?' * (PARAMETERS + 1))}", [1] * (PARAMETERS + 1), "too many SQL variables: SQLITE_ERROR"),
        ("SELECT 1 --" + "x" * STATEMENT, [], "statement too long: SQLITE_TOOBIG"),
        ("INSERT INTO t VALUES (?)", ["x" * (VALUE + 1)], "string or blob too big: SQLITE_TOOBIG"),
    ):
        with pytest.raises(D1Error) as refused:
            file.run([(sql, params)])
        assert str(refused.value) == words
    file.run([("INSERT INTO t VALUES (?)", ["x" * (VALUE - 100)])])
    file.close()


def test_a_result_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(d1_file, "_RESULT", 1 << 20)
    file = D1File(":memory:")
    endless = "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT x FROM r"
    with pytest.raises(D1Error, match="D1 DB exceeded its memory limit"):
        file.run([(endless, ())])
    file.close()


async def test_a_query_without_an_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(d1_file, "SECONDS", 0.05)
    database = D1Database(":memory:")
    with pytest.raises(BindingError, match="storage operation exceeded timeout which caused object to be reset"):
        await database.call("query", [[{"sql": FOREVER}]])
    assert (await database.call("query", [[{"sql": "SELECT 1"}]]))["results"][0]["rows"] == [[1]]
    await database.aclose()


async def test_a_leaving_client_stops_its_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(d1_file, "SECONDS", 1e6)  # so that nothing else ends it
    async with serving(tmp_path, WORKER, bindings={"DB": D1Database(tmp_path / "d1.sqlite")}) as client:
        leaving = asyncio.create_task(client.get("/slow"))
        seen = sqlite3.connect(tmp_path / "d1.sqlite")
        while not seen.execute("SELECT name FROM sqlite_schema").fetchall():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        leaving.cancel()
        with contextlib.suppress(asyncio.CancelledError, httpx.HTTPError):
            await leaving
        assert (await client.get("/quick")).json() == [["begun"]]  # its turn comes
        assert seen.execute("SELECT * FROM begun").fetchall() == []
        seen.close()


async def test_two_workers_share_a_database(tmp_path: Path) -> None:
    both = [D1Database(tmp_path / "d1.sqlite") for _ in range(2)]
    await both[0].call("query", [[{"sql": "CREATE TABLE n (v)"}, {"sql": "INSERT INTO n VALUES (0)"}]])
    add = [{"sql": "UPDATE n SET v = v + 1"}, {"sql": "UPDATE n SET v = v + 1"}]
    await asyncio.gather(*(each.call("query", [add]) for each in both * 25))
    found = await both[1].call("query", [[{"sql": "SELECT v FROM n"}]])
    assert found["results"][0]["rows"] == [[100]]
    for each in both:
        await each.aclose()


async def test_sessions_have_bookmarks_that_grow(tmp_path: Path) -> None:
    source = """
        from workers import Response, WorkerEntrypoint

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                session = self.env.DB.withSession("first-primary")
                seen = [session.getBookmark()]
                for _ in range(2):
                    await session.prepare("SELECT 1").run()
                    seen.append(session.getBookmark())
                later = self.env.DB.withSession(seen[-1])
                return Response.json([*seen, later.getBookmark(), hasattr(self.env.DB, "getBookmark")])
    """
    async with serving(tmp_path, source, bindings={"DB": D1Database(":memory:")}) as client:
        none, first, second, later, on_the_database = (await client.get("/")).json()
    assert none is None
    assert first < second == later
    assert not on_the_database
