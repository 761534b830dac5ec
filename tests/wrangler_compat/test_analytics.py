"""Analytics Engine: points that a Worker writes, and ``roost analytics query``."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from tests.worker.python_workers import serving
from tests.wrangler_compat.test_cli_vectorize import HEAD, read
from tests.wrangler_compat.test_pytest_plugin import run_pytest
from tests.wrangler_compat.test_python_dev import project
from worker.bindings.analytics import AnalyticsDataset
from worker.bindings.analytics_file import COLUMNS, AnalyticsFile, BadQuery
from wrangler_compat.cli import main
from wrangler_compat.project import ProjectError

WORKER = """
    from workers import Response, WorkerEntrypoint

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            given = await request.json()
            try:
                if "bytes" in given:
                    given["blobs"] = [bytes(given.pop("bytes"))]
                return Response.json([self.env.SALES.writeDataPoint(given)])
            except Exception as error:
                return Response(str(error), status=400)
"""
CONFIG = '[[analytics_engine_datasets]]\nbinding = "SALES"\ndataset = "sales"\n'
POINTS = [
    {"blobs": ["tea", None, "é"], "doubles": [1.5, 2], "indexes": ["shop"]},
    {"blobs": ["tea"], "doubles": [2]},
    {"bytes": [0xE9]},
    {},
]


async def posted(client: httpx.AsyncClient, point: object) -> httpx.Response:
    return await client.post("/", json=point)


async def test_a_loop_of_writes_is_kept_whole_and_in_order(tmp_path: Path) -> None:
    source = """
        from workers import Response, WorkerEntrypoint

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                for n in range(1000):
                    self.env.SALES.writeDataPoint({"doubles": [n]})
                return Response("done")
    """
    file = AnalyticsFile(tmp_path / "analytics.sqlite")
    async with serving(tmp_path / "w", source, bindings={"SALES": AnalyticsDataset(file, "sales")}) as client:
        assert (await client.get("/")).text == "done"
        while len(rows := file.query("SELECT double1 FROM sales", ["sales"])[1]) < 1000:
            await asyncio.sleep(0.02)
    assert [row[0] for row in rows] == list(range(1000))


async def test_points_are_written_and_read(tmp_path: Path) -> None:
    file = AnalyticsFile(tmp_path / "analytics.sqlite")
    async with serving(tmp_path / "w", WORKER, bindings={"SALES": AnalyticsDataset(file, "sales")}) as client:
        for point in POINTS:
            assert (await posted(client, point)).json() == [None]
        too_much = [
            {"blobs": ["x"] * 21},
            {"doubles": [1] * 21},
            {"indexes": ["a", "b"]},
            {"indexes": ["é" * 49]},
            {"blobs": ["x" * 16_385]},
            {"doubles": ["x"]},
            {"blobs": [1]},
            {"blobs": "x"},
        ]
        told = [(await posted(client, each)).text for each in too_much]
        assert (await posted(client, {"blobs": ["y" * 16_384], "indexes": ["é" * 48]})).status_code == 200
    assert told == [
        "TypeError: writeDataPoint(): Maximum of 20 blobs supported.",
        "TypeError: writeDataPoint(): Maximum of 20 doubles supported.",
        "TypeError: writeDataPoint(): Maximum of 1 indexes supported.",
        "TypeError: writeDataPoint(): An index of 98 bytes is longer than 96.",
        "TypeError: writeDataPoint(): Blobs of 16385 bytes are more than the 16384 of a data point.",
        "TypeError: writeDataPoint(): A double is a number, and not 'x'.",
        "TypeError: writeDataPoint(): A blob is a text, bytes or null, and not 1.",
        "TypeError: writeDataPoint(): blobs must be an array.",
    ]
    columns, rows = file.query("SELECT * FROM sales ORDER BY length(blob1) > 99, double1 DESC")
    assert columns == [*COLUMNS, "_sample_interval", "dataset"]
    assert len(rows) == len(POINTS) + 1
    shown = [dict(zip(columns, row, strict=True)) for row in rows]
    assert {(row["_sample_interval"], row["dataset"], len(row["timestamp"])) for row in shown} == {(1, "sales", 19)}
    assert [row["blob1"] for row in shown[:2]] == ["tea", "tea"]
    assert (shown[1]["index1"], shown[1]["blob2"], shown[1]["blob3"], shown[1]["double2"]) == ("shop", "", "é", 2.0)
    assert {row["blob1"] for row in shown[2:4]} == {"", b"\xe9"}
    assert shown[0]["double20"] == 0.0
    _, sums = file.query("SELECT blob1, sum(double1 * _sample_interval) FROM sales WHERE blob1 = 'tea' GROUP BY blob1")
    assert sums == [("tea", 3.5)]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("DELETE FROM sales", "sales"),
        ("DELETE FROM points", "only reads"),
        ("DROP VIEW sales", "only reads"),
        ("ATTACH 'other.sqlite' AS o", "only reads"),
        ("PRAGMA journal_mode=DELETE", "only reads"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("", "one SELECT"),
        ("SELECT nowhere FROM sales", "no such column: nowhere"),
        ("SELECT * FROM other", "no such table: other"),
    ],
)
async def test_a_query_only_reads(tmp_path: Path, sql: str, words: str) -> None:
    file = AnalyticsFile(tmp_path / "analytics.sqlite")
    await AnalyticsDataset(file, "sales").call("writeDataPoint", [b"", [b"tea"], []])
    with pytest.raises(BadQuery, match=words):
        file.query(sql)
    assert file.query("SELECT count(*) FROM sales")[1] == [(1,)]
    file.close()
    assert [path.name for path in tmp_path.glob("other*")] == []


async def test_the_command_prints_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def query(*words: str) -> str:
        done = CliRunner().invoke(main, ["analytics", "query", *words])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.output

    (tmp_path / "wrangler.toml").write_text(HEAD + CONFIG)
    monkeypatch.chdir(tmp_path)
    assert json.loads(query("--json", "SELECT * FROM sales")) == []  # before anything is written
    dataset = AnalyticsDataset(AnalyticsFile(tmp_path / ".wrangler/state/roost/analytics.sqlite"), "sales")
    await dataset.call("writeDataPoint", [b"shop", [b"tea", b"\xe9"], [2.5]])
    await dataset.aclose()
    assert json.loads(query("--json", "SELECT index1, blob1, blob2, double1 AS d FROM sales")) == [
        {"index1": "shop", "blob1": "tea", "blob2": "\ufffd", "d": 2.5}
    ]
    shown = query("SELECT blob1 AS what, NULL AS none, double1 FROM sales")
    assert [line.split() for line in shown.splitlines()] == [["what", "none", "double1"], ["tea", "2.5"]]
    assert "no such table: nope" in query("SELECT * FROM nope")


def test_points_are_rolled_back(tmp_path: Path) -> None:
    folder = project(tmp_path, "entry", WORKER, CONFIG)
    tests = """
        import pytest

        @pytest.mark.parametrize("n", [1, 2])
        def test_a_point(worker, env, n):
            assert worker.post("/", json={"doubles": [n]}).json() == [None]
            assert env.SALES.writeDataPoint({"blobs": ["ours"]}) is None
            with pytest.raises(Exception, match="Maximum of 1 indexes supported"):
                env.SALES.writeDataPoint({"indexes": ["a", "b"]})
    """
    assert "2 passed" in run_pytest(folder, tests)
    assert not (folder / ".wrangler").exists()


def test_the_configuration_is_checked(tmp_path: Path) -> None:
    assert read(tmp_path, CONFIG + '[[analytics_engine_datasets]]\nbinding = "B"\n').more.datasets == {
        "SALES": "sales",
        "B": "B",
    }
    with pytest.raises(ProjectError) as mistakes:
        read(tmp_path, '[[analytics_engine_datasets]]\ndataset = "x"\n' + CONFIG.replace('"sales"', '"1-a"'))
    assert str(mistakes.value).splitlines() == [
        'wrangler.toml:4: each of analytics_engine_datasets needs a "binding"',
        "wrangler.toml:8: '1-a' is no dataset's name: letters, digits and _, no digit first, 100 at most",
    ]
