"""Static assets' files of rules, before a Worker in a real isolate: ``_redirects``, ``_headers``, run_worker_first."""

from pathlib import Path
from typing import Any

import pytest

from tests.worker.python_workers import python_worker, served, written
from worker.bindings.asset_rules import HeaderRules, Redirects
from worker.bindings.assets import Assets

WORKER = """
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if "inner" in request.url:
            inner = await self.env.ASSETS.fetch("http://x/old?q=1", redirect="manual")
            return Response.json([inner.status, inner.headers["location"]])
        return Response("worker")
"""
REDIRECTS = """
# a comment
/old            /new
/gone           /new#there           301
/kept           /new?mine=1          308
/out            https://example.com/
/user/:id       /people/:id/:missing 307
/docs/*         /guide/:splat
/shown/*        /new                 200
/nothing/:x     /none                200
/double/*       /a//:splat
"""
HEADERS = """
/*
  X-All: one
  x-all: two
/new
  X-All: three
  ! Cache-Control
  ETag: mine
/pages/:name
  X-Name: it is :name
https://:part.test/new
  X-Part: :part
"""


@pytest.fixture
def public(tmp_path: Path) -> Path:
    folder = tmp_path / "public"
    (folder / "pages").mkdir(parents=True)
    for name in ("index.html", "new.html", "404.html", "pages/one.html"):
        (folder / name).write_text(name)
    (folder / "_redirects").write_text(REDIRECTS)
    (folder / "_headers").write_text(HEADERS)
    return folder


async def test_redirects_are_followed_before_the_worker(tmp_path: Path, public: Path) -> None:
    assets = Assets(public)
    worker = python_worker(written(tmp_path, worker=WORKER), bindings={"ASSETS": assets})
    expected = {
        "/old?q=1": (302, "/new?q=1"),
        "/gone": (301, "/new#there"),
        "/kept?q=1": (308, "/new?mine=1"),
        "/out?q=1": (302, "https://example.com/?q=1"),
        "/user/7": (307, "/people/7/:missing"),
        "/docs/a/b?q": (302, "/guide/a/b?q"),
        "/double//b": (302, "/a/b"),
    }
    async with served(worker, assets) as client:
        answers = {path: await client.get(path) for path in expected}
        shown = await client.get("/shown/anything")
        posted = await client.post("/old")
        nothing = await client.get("/nothing/1")
        inner = (await client.get("/inner")).json()
        (public / "_redirects").write_text("/old /newer 301")
        changed = await client.get("/old")
    assert {path: (each.status_code, each.headers["location"]) for path, each in answers.items()} == expected
    assert (shown.status_code, shown.text) == (200, "new.html")
    assert (posted.status_code, nothing.status_code) == (302, 404)
    assert inner == [302, "/new?q=1"]
    assert (changed.status_code, changed.headers["location"]) == (301, "/newer")


async def test_headers_are_attached_joined_and_detached(tmp_path: Path, public: Path) -> None:
    assets = Assets(public)
    async with served(python_worker(written(tmp_path, worker=WORKER)), assets) as client:
        home, new, page, moved, of_worker = [
            (await client.get(path)).headers for path in ("/", "/new", "/pages/one", "/old", "/none")
        ]
        elsewhere = (await client.get("/new", headers={"host": "some.test"})).headers
        kept = await client.get("/", headers={"if-none-match": home["etag"]})
    assert (home["x-all"], home["cache-control"]) == ("one, two", "public, max-age=0, must-revalidate")
    assert (new["x-all"], new["etag"], "cache-control" in new) == ("one, two, three", "mine", False)
    assert (page["x-name"], moved["x-all"], "x-all" in of_worker) == ("it is one", "one, two", False)
    assert ("x-part" in new, elsewhere["x-part"]) == (False, "some")
    assert (kept.status_code, kept.headers["x-all"], kept.content) == (304, "one, two", b"")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/a", "two or three words"),
        ("/a /b 302 more", "two or three words"),
        ("/a /b 404", "status is one of"),
        ("/a b", "neither a path nor"),
        ("https://x.test/a /b", "begins at a path"),
        ("/* /index.html", "back to itself"),
        ("/ /index", "back to itself"),
        ("/a https://x.test/b 200", "a path of the same site"),
        ("/*/* /b", "one *"),
        ("/" + "a" * 2000 + " /b", "more than 2000 characters"),
        ("/first /b", "already"),
    ],
)
def test_a_line_that_is_no_redirect_is_told_and_left_out(line: str, words: str) -> None:
    rules = Redirects.read(f"/first /x\n{line}\n/last /y")
    assert len(rules.problems) == 1
    assert words in rules.problems[0]
    assert rules.problems[0].startswith("line 2: ")
    assert all(rules.found(path) for path in ("/first", "/last"))


def test_redirects_are_bounded() -> None:
    rules = Redirects.read("\n".join(f"/s{n} /t" for n in range(2001)))
    assert (len(rules.static), rules.problems) == (2000, ["line 2001: more than 2000 static rules"])
    rules = Redirects.read("\n".join(["/*a /t", *(f"/d{n} /t" for n in range(150))]))
    assert (len(rules.static), len(rules.dynamic)) == (0, 100)  # whatever follows a dynamic rule counts as one
    assert rules.problems == ["line 101: more than 100 dynamic rules; 51 lines are left out"]


def test_an_earlier_static_rule_wins_over_a_dynamic_one() -> None:
    rules = Redirects.read("/a/b /one\n/a/* /two\n/a/c /three")
    assert [rule.target for path in ("/a/b", "/a/c") if (rule := rules.found(path))] == ["/one", "/two"]


def test_headers_are_bounded_and_their_mistakes_told() -> None:
    rules = HeaderRules.read("x: 1\n/a\n/b\n x\n x y: 1\n :\n a: 1\nhttps://h:1/c\n b: 2")
    assert [problem.partition(":")[0] for problem in rules.problems] == [
        *("line 1", "line 4", "line 5", "line 6", "line 8", "line 9", "line 2"),
    ]
    assert [rule.source for rule in rules.rules] == ["/b"]
    many = HeaderRules.read("".join(f"/{n}\n a: 1\n" for n in range(101)))
    assert (len(many.rules), many.problems) == (100, ["line 201: more than 100 rules; the rest is left out"])


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (True, ["worker", "worker"]),
        (["/pages/*"], ["new.html", "worker"]),
        (["/*", "!/pages/*"], ["worker", "pages/one.html"]),
        (["/[pn]*"], ["new.html", "pages/one.html"]),  # only * means something
    ],
)
async def test_the_worker_goes_first_where_it_says_so(
    tmp_path: Path, public: Path, rules: Any, expected: list[str]
) -> None:
    assets = Assets(public, run_worker_first=rules)
    async with served(python_worker(written(tmp_path, worker=WORKER)), assets) as client:
        assert [(await client.get(path)).text for path in ("/new", "/pages/one")] == expected


async def test_types_do_not_depend_on_the_system(tmp_path: Path, public: Path) -> None:
    expected = {
        "a.js": "text/javascript; charset=utf-8",
        "a.mjs": "text/javascript; charset=utf-8",
        "a.json": "application/json",
        "a.svg": "image/svg+xml",
        "a.woff2": "font/woff2",
        "a.webmanifest": "application/manifest+json",
        "a.unknown": "application/octet-stream",
    }
    for name in expected:
        (public / name).write_text("x")
    async with served(python_worker(written(tmp_path, worker=WORKER)), Assets(public)) as client:
        assert {name: (await client.get(f"/{name}")).headers["content-type"] for name in expected} == expected
