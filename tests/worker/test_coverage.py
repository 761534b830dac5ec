"""docs/coverage.md says what is there: every entry is called, or found missing, in a real isolate."""

from pathlib import Path

from tests.worker import make_coverage, sdk
from tests.worker.python_workers import serving

WITHOUT_CODE = {"blob.BlobEnding", "utils.HTTPMessageMapping", "asgi.Options", "wsgi.Options"}
"""Classes that have no function of their own; the Worker makes one of each."""
EXERCISE = (Path(__file__).parent / "sdk_worker.py").read_text(encoding="utf-8")


def test_the_page_is_what_the_table_says() -> None:
    assert make_coverage.PAGE.read_text(encoding="utf-8") == make_coverage.page()


def test_the_table_names_members_of_the_sdk() -> None:
    assert {*sdk.MISSING, *sdk.DIFFERS} <= {*sdk.members()}


async def test_all_that_the_sdk_has_here_was_called(tmp_path: Path) -> None:
    async with serving(tmp_path, EXERCISE, variables={"TEXT": "t"}) as client:
        answer = await client.get("/all")
    assert answer.status_code == 200, answer.json()["error"]["traceback"]
    called = set(answer.json())
    here = [member for member in sdk.members() if sdk.state(member)[0] != "missing"]
    assert [
        member
        for member in here
        if member not in called | WITHOUT_CODE and not any(name.startswith(f"{member}.") for name in called)
    ] == []


async def test_what_is_missing_says_so(tmp_path: Path) -> None:
    source = f"""
        import js
        from workers import Response, WorkerEntrypoint

        def said(name):
            try:
                exec(f"from js import {{name}}")
            except ImportError as error:
                first = str(error)
            try:
                getattr(js, name)
            except AttributeError as error:
                return "docs/coverage.md" in first and name in first and "docs/coverage.md" in str(error)

        def of_objects():
            try:
                js.Response.new("").flush()
            except AttributeError as error:
                return str(error)

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                return Response.json([[said(name) for name in {sdk.JS_MISSING!r}], of_objects()])
    """
    async with serving(tmp_path, source) as client:
        found, words = (await client.get("/")).json()
    assert found == [True] * len(sdk.JS_MISSING)
    assert words == "Response has no flush here: docs/coverage.md lists what roost has"
