"""Vectorize, rate limits and version metadata as a Worker meets them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.python_workers import serving
from worker.bindings.binding import BindingError
from worker.bindings.rate_limit import RateLimit
from worker.bindings.vectorize import BATCH, ID, METADATA, NAMESPACE, TOP, TOP_WHOLE, Vectorize
from worker.bindings.vectorize_file import METRICS, VectorIndexFile, ranked
from worker.bindings.vectorize_filters import checked, meets
from worker.bindings.version_metadata import VersionMetadata

WORKER = """
    from workers import Response, WorkerEntrypoint

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            index = self.env.INDEX
            rows = [
                {"id": "a", "values": [1, 0], "namespace": "n", "metadata": {"kind": "x", "deep": {"year": 1999}}},
                {"id": "b", "values": [0, 1], "metadata": {"kind": "y", "deep": {"year": 2020}}},
                {"id": "c", "values": [1, 1]},
            ]
            told = [bool((await index.insert(rows)).mutationId)]
            await index.insert([{"id": "a", "values": [9, 9]}])
            found = await index.query([1, 0], {"topK": 2, "returnValues": True, "returnMetadata": "all"})
            told.append([found.count, [[m.id, round(m.score, 6), list(m["values"])] for m in found.matches]])
            told.append(found.matches[0].metadata.deep.year)
            late = await index.query([1, 0], {"filter": {"deep.year": {"$gte": 2000}}})
            told.append([m.id for m in late.matches])
            told.append([m.id for m in (await index.query([1, 0], {"namespace": "n"})).matches])
            await index.upsert([{"id": "a", "values": [0, 5]}])
            told.append([m.id for m in (await index.queryById("b")).matches])
            await index.deleteByIds(["b"])
            told.append([v.id for v in await index.getByIds(["b", "c", "a"])])
            told.append((await index.describe()).vectorCount)
            try:
                await index.query([1, 2, 3])
            except Exception as error:
                told.append(str(error))
            told.append([(await self.env.RATE.limit({"key": "k"})).success for _ in range(3)])
            version = self.env.VERSION
            told.append([len(version.id), version.tag, version.timestamp[-1]])
            return Response.json(told)
"""


def index(folder: Path, dimensions: int = 2, metric: str = "cosine") -> Vectorize:
    file = VectorIndexFile(folder, "index")
    file.create(dimensions, metric)
    return Vectorize(file)


async def test_a_worker_meets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.bindings.rate_limit.time.time", lambda: 1000.0)  # no window ends meanwhile
    bindings = {"INDEX": index(tmp_path), "RATE": RateLimit(2, 60), "VERSION": VersionMetadata()}
    async with serving(tmp_path / "w", WORKER, bindings=bindings) as client:
        answer = await client.get("/")
    assert answer.status_code == 200, answer.text
    assert answer.json() == [
        True,
        [2, [["a", 1.0, [1, 0]], ["c", 0.707107, [1, 1]]]],
        1999,
        ["b"],
        ["a"],
        ["a", "b", "c"],
        ["c", "a"],
        2,
        "Error: VECTOR_QUERY_ERROR (code = 40006): invalid query vector, expected 2 dimensions, and got 3 dimensions",
        [True, True, False],
        [36, "", "Z"],
    ]


NUMBERS = st.integers(-8, 8).map(float)


@given(
    rows=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=20),
    query=st.tuples(NUMBERS, NUMBERS, NUMBERS),
    metric=st.sampled_from(METRICS),
)
def test_the_nearest_are_those_of_a_search_by_hand(
    rows: list[tuple[float, ...]], query: tuple[float, ...], metric: str
) -> None:
    def score(row: tuple[float, ...]) -> float:
        dot = sum(a * b for a, b in zip(row, query, strict=True))
        if metric == "dot-product":
            return -dot
        if metric == "euclidean":
            return float(sum((a - b) ** 2 for a, b in zip(row, query, strict=True)) ** 0.5)
        sizes = float((sum(a * a for a in row) * sum(b * b for b in query)) ** 0.5)
        return dot / sizes if sizes else 0.0

    scores, order = ranked(np.array(rows, np.float32), np.array(query, np.float32), metric)
    assert scores.tolist() == pytest.approx([score(row) for row in rows], abs=1e-12)
    by_hand = sorted(map(score, rows), reverse=metric == "cosine")
    assert [scores[place] for place in order] == pytest.approx(by_hand, abs=1e-12)
    assert sorted(order.tolist()) == list(range(len(rows)))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"n": 3}, True),
        ({"n": {"$eq": 4}}, False),
        ({"n": {"$ne": 3}}, False),
        ({"none": {"$ne": 3}}, True),
        ({"none": None}, True),
        ({"n": True}, False),
        ({"n": {"$in": [1, 3]}}, True),
        ({"n": {"$nin": [1, 3]}}, False),
        ({"n": {"$gt": 2, "$lte": 3}}, True),
        ({"n": {"$lt": 3}}, False),
        ({"n": {"$gte": "3"}}, False),
        ({"t": {"$gte": "ab", "$lt": "ac"}}, True),
        ({"o.p.q": "deep"}, True),
        ({"d.ot": 1}, True),
        ({"n": 3, "t": "no"}, False),
    ],
)
def test_filters_hold_as_they_say(wanted: dict[str, Any], expected: bool) -> None:
    metadata = {"n": 3, "t": "abc", "o": {"p": {"q": "deep"}}, "d.ot": 1}
    assert meets(metadata, checked(wanted)) is expected


GOOD = {"id": "a", "values": [1, 2]}


@pytest.mark.parametrize(
    ("method", "args", "words"),
    [
        ("insert", [[GOOD] * (BATCH + 1)], "more than the 1000"),
        ("insert", [[]], "at least one"),
        ("insert", [[GOOD | {"id": "x" * (ID + 1)}]], "1 to 64 bytes"),
        ("insert", [[GOOD | {"values": [1]}]], 'invalid vector for id="a", expected 2 dimensions, and got 1'),
        ("upsert", [[GOOD | {"values": [1, float("nan")]}]], "VECTOR_UPSERT_ERROR: .* finite"),
        ("insert", [[GOOD | {"namespace": "n" * (NAMESPACE + 1)}]], "namespace"),
        ("insert", [[GOOD | {"metadata": {"a": "x" * METADATA}}]], "larger than 10240 bytes"),
        ("query", [[1, 2], {"topK": TOP + 1}], "topK is 1 to 100"),
        ("query", [[1, 2], {"topK": TOP_WHOLE + 1, "returnValues": True}], "topK is 1 to 20"),
        ("query", [[1, 2], {"topK": float("inf")}], "topK is 1 to 100"),
        ("query", [[1, 10**400]], "finite numbers"),
        ("query", [b"12345"], "finite numbers"),
        ("query", [[1, 2], {"returnMetadata": "some"}], "returnMetadata"),
        ("query", [[1, 2], {"filter": {}}], "at least one property"),
        ("query", [[1, 2], {"filter": {"$a": 1}}], "is no property"),
        ("query", [[1, 2], {"filter": {"a": {"$like": 1}}}], "is none of"),
        ("query", [[1, 2], {"filter": {"a": {"$in": []}}}], "is a list"),
        ("query", [[1, 2], {"filter": {"a": {"$lt": 3, "$lte": 4}}}], "several operators"),
        ("queryById", ["none"], "no vector with the id"),
        ("getByIds", [[]], "at least one"),
    ],
)
async def test_what_is_wrong_is_refused(tmp_path: Path, method: str, args: list[Any], words: str) -> None:
    made = index(tmp_path)
    with pytest.raises(BindingError, match=words):
        await made.call(method, args)
    assert (await made.call("describe", []))["vectorCount"] == 0
    await made.aclose()


async def test_an_index_must_have_been_created(tmp_path: Path) -> None:
    with pytest.raises(BindingError, match="roost vectorize create index --dimensions"):
        await Vectorize(VectorIndexFile(tmp_path, "index")).call("describe", [])


async def test_two_that_have_it_open_see_each_others_vectors(tmp_path: Path) -> None:
    one, other = index(tmp_path), Vectorize(VectorIndexFile(tmp_path, "index"))
    for writer, reader, name in ((one, other, "a"), (other, one, "b"), (one, one, "c")):
        await writer.call("insert", [[{"id": name, "values": [1, 2]}]])
        found = await reader.call("query", [np.array([1, 2], np.float32).tobytes(), {"returnMetadata": "indexed"}])
        assert name in json.dumps(found)
    await one.aclose()
    await other.aclose()


@given(calls=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 100)), max_size=40), limit=st.integers(1, 4))
def test_no_window_admits_more_than_its_limit(calls: list[tuple[str, int]], limit: int) -> None:
    rate = RateLimit(limit, 10)
    admitted: dict[tuple[str, int], int] = {}
    asked: dict[tuple[str, int], int] = {}
    for key, now in sorted(calls, key=lambda each: each[1]):
        window = key, now // 10
        asked[window] = asked.get(window, 0) + 1
        admitted[window] = admitted.get(window, 0) + rate.take(key, now)
    assert admitted == {window: min(limit, count) for window, count in asked.items()}
