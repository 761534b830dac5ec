"""Python Workers for tests: written as a user would, in a real isolate, behind a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import httpx

from worker.bindings.assets import Assets
from worker.bindings.binding import Binding
from worker.bindings.cache import Cache
from worker.bindings.internet import Internet
from worker.front import Front
from worker.isolate_process import Limits, WorkerSpec
from worker.isolates import PythonWorker
from worker.server import bind, serve_until, url_of
from worker.services import Services

DATE = "2026-01-01"
FLAGS = ("python_workers",)


def written(folder: Path, **files: str) -> Path:
    """``folder`` with Python modules of these names and texts."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(dedent(text), encoding="utf-8")
    return folder


def python_worker(
    folder: Path,
    *,
    main: str = "worker",
    date: str = DATE,
    flags: tuple[str, ...] = FLAGS,
    limits: Limits = Limits(),  # noqa: B008  (it can't change)
    bindings: Mapping[str, Binding] | None = None,
    variables: Mapping[str, Any] | None = None,
) -> PythonWorker:
    """The Worker in ``folder``."""
    kept = dict(bindings or {})
    described: list[dict[str, Any]] = [{"name": name, **each.described()} for name, each in kept.items()]
    described += [{"name": name, "kind": "variable", "value": each} for name, each in (variables or {}).items()]
    spec = WorkerSpec("test", folder / f"{main}.py", folder, date, flags, described, limits)
    return PythonWorker(spec, Services({"internet": Internet(), "cache": Cache(":memory:"), **kept}))


@asynccontextmanager
async def served(worker: PythonWorker, assets: Assets | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of ``worker`` while the block runs."""
    listener, stop = bind("127.0.0.1", 0), asyncio.Event()
    url = url_of(listener)
    async with worker.running(), httpx.AsyncClient(base_url=url, timeout=60) as client:
        serving = asyncio.create_task(serve_until(Front(worker, assets), listener, stop))
        try:
            yield client
        finally:
            stop.set()
            await serving


@asynccontextmanager
async def serving(folder: Path, source: str, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the Worker whose module is ``source``."""
    async with served(python_worker(written(folder, worker=source), **options)) as client:
        yield client
