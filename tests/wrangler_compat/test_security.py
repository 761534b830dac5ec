"""Nobody gets where they don't belong: see docs/security.md, whose sentences these tests hold."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.routing import BaseRoute, Mount, Route

from runtime.artifacts import ArtifactStore
from runtime.errors import ArtifactError
from tests.worker.asking import GREEDY, MODEL
from tests.worker.live import live
from worker import AI
from worker.guard import LOCAL_HOSTS, OPEN_PATHS, STATIC
from wrangler_compat.app import create_app

ROOT = Path(__file__).parent.parent.parent
TOKEN = "a-secret"
RUN = f"/client/v4/accounts/a/ai/run/{MODEL}"


@pytest.fixture(scope="module")
def guarded() -> Iterator[httpx.Client]:
    """A roost that asks for a token."""
    with live(create_app(AI(), hosts=None, token=TOKEN)) as url, httpx.Client(base_url=url) as client:
        yield client


def routes(found: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The method and the path of every route, names filled in."""
    for route in found:
        if isinstance(route, Mount):
            yield from routes(route.routes or [], prefix + route.path)
        elif isinstance(route, Route):
            path = re.sub(r"{(\w+)(:\w+)?}", "x", prefix + route.path)
            yield from ((method, path) for method in route.methods or ())


ALL = sorted(set(routes(create_app(AI()).routes)))


@pytest.mark.parametrize(("method", "path"), ALL)
def test_every_door_but_health_and_the_entrance_wants_the_token(guarded: httpx.Client, method: str, path: str) -> None:
    answer = guarded.request(method, path, json={} if method == "POST" else None)
    if path in OPEN_PATHS or path.startswith(f"{STATIC}/"):
        assert answer.status_code not in (400, 401, 403) or path.endswith("enter")
    else:
        assert answer.status_code in (400, 401), answer.text
        if method != "HEAD":
            assert answer.json()["errors"][0]["code"] in (9106, 10000)


def test_health_and_what_a_browser_needs_to_enter_are_all_that_is_open() -> None:
    assert len(ALL) > 30
    assert {path for _, path in ALL} >= OPEN_PATHS
    assert {"/cdn-cgi/local/health", "/cdn-cgi/local/enter"} == OPEN_PATHS


def test_only_loopback_listens_unless_a_token_is_set() -> None:
    assert {"localhost", "127.0.0.1", "[::1]", "workers-binding.ai"} == LOCAL_HOSTS


FOREIGN = ["https://evil.example", "http://localhost.evil.example", "http://127.0.0.1.evil.example:8790", "null", "x"]
NEAR = ["http://localhost:5173", "http://127.0.0.1:3000", "http://[::1]:8787", "http://LOCALHOST"]


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
def test_a_page_of_another_site_posts_nothing_not_even_simply(http: httpx.Client, origin: str, kind: str) -> None:
    headers = {"origin": origin, "content-type": kind, "sec-fetch-site": "cross-site"}
    answer = http.post(RUN, headers=headers, json=GREEDY)
    assert answer.status_code == 403
    assert answer.json()["errors"][0]["code"] == 9109
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", sorted({path for _, path in ALL}))
def test_no_door_answers_a_page_of_another_site(http: httpx.Client, path: str) -> None:
    for headers in ({"origin": FOREIGN[0]}, {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}):
        assert http.get(path, headers=headers).status_code == 403
    framed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
    assert http.get(path, headers=framed).status_code == 403


@pytest.mark.parametrize("origin", NEAR)
def test_pages_of_this_machine_may_ask(http: httpx.Client, origin: str) -> None:
    assert http.get("/cdn-cgi/local/ps", headers={"origin": origin, "sec-fetch-site": "same-site"}).status_code == 200


def test_a_link_from_elsewhere_may_be_followed(http: httpx.Client) -> None:
    clicked = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert http.get("/cdn-cgi/local/models", headers=clicked).status_code == 200


def test_whoever_holds_the_token_may_ask_from_any_page(guarded: httpx.Client) -> None:
    headers = {"origin": FOREIGN[0], "authorization": f"Bearer {TOKEN}"}
    assert guarded.get("/cdn-cgi/local/ps", headers=headers).status_code == 200
    assert guarded.get("/cdn-cgi/local/ps", headers={**headers, "authorization": "Bearer x"}).status_code == 403


OUTSIDE = [
    "../../../../etc/passwd",
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "..%5c..%5c..%5cetc%5cpasswd",
    "....//....//etc/passwd",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "x%00.json",
    "x" * 5000,
]


@pytest.mark.parametrize("path", sorted({path for method, path in ALL if method == "GET" and "x" in path.split("/")}))
def test_no_path_leads_out(url: str, path: str) -> None:
    known = Path("/etc/passwd").read_bytes()[:20]
    for outside in OUTSIDE:
        target = "/".join(outside if part == "x" else part for part in path.split("/"))
        answer = httpx.get(httpx.URL(url).copy_with(raw_path=target.encode()))
        assert answer.status_code < 500, target
        assert known not in answer.content


def test_a_models_name_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    store = ArtifactStore(tmp_path / "cache")
    for key in ("../secret", "..", "", "a/b", "a\0b", "/etc"):
        try:
            found = store.find(key)
        except ArtifactError:
            continue
        assert found is None


UNPICKLING = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
EVALUATING = {"eval", "exec", "compile"}
ISOLATES = ("worker/isolate/",)


def sources() -> list[Path]:
    return [
        path
        for package in ("catalog", "runtime", "worker", "wrangler_compat")
        for path in (ROOT / package).rglob("*.py")
    ]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpickled_or_evaluated(path: Path) -> None:
    inside = str(path.relative_to(ROOT)).startswith(ISOLATES)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                assert not {name.name.partition(".")[0] for name in names} & UNPICKLING
            case ast.ImportFrom(module=module):
                assert (module or "").partition(".")[0] not in UNPICKLING
            case ast.Call(func=ast.Name(id=name)):
                assert inside or name not in EVALUATING
            case ast.Call(func=ast.Attribute(value=ast.Name(id="yaml"), attr=attr)):
                assert attr not in ("load", "load_all", "unsafe_load", "full_load") or "Loader" in ast.unparse(node)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="np" | "numpy"), attr="load")):
                assert "allow_pickle=True" not in ast.unparse(node)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr=attr)):
                assert attr != "load"


WORKER = """
    import os
    from workers import Response, WorkerEntrypoint

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            with open("/proc/self/cmdline") as told:
                return Response.json([dict(os.environ), told.read(), await self.env.AI.run(MODEL, ASKED)])
"""


@pytest.mark.weights
def test_a_python_worker_is_not_handed_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.wrangler_compat.test_python_dev import project, roost_dev

    monkeypatch.setenv("ROOST_TOKEN", TOKEN)
    source = WORKER.replace("MODEL", repr(MODEL)).replace("ASKED", repr(GREEDY))
    with roost_dev(project(tmp_path, "entry", source, '[ai]\nbinding = "AI"')) as (_, client):
        environment, command, answer = client.get("/").json()
    assert answer["response"]
    assert TOKEN not in environment.values()
    assert "ROOST_TOKEN" not in environment
    assert TOKEN not in command
    assert os.environ["ROOST_TOKEN"] == TOKEN


@pytest.mark.parametrize("origin", ["http://[::1", "http://[evil", "http://a]b"])
@pytest.mark.parametrize("path", ["/cdn-cgi/local/health", "/cdn-cgi/local/ps"])
def test_an_origin_that_is_no_address_is_foreign(http: httpx.Client, path: str, origin: str) -> None:
    answer = http.get(path, headers={"origin": origin})
    assert answer.status_code == 403
    assert answer.json()["errors"][0]["code"] == 9109


@pytest.mark.parametrize(("path", "header"), [("/", "mf-url"), ("/client/v4/accounts/a/ai/run/proxy", "x-forwarded")])
def test_a_carried_address_that_is_none_is_refused_in_an_envelope(http: httpx.Client, path: str, header: str) -> None:
    answer = http.post(path, headers={header: "http://["})
    assert 400 <= answer.status_code < 500
    assert answer.json()["success"] is False
