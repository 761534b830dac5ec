"""D1: a database of SQLite, asked over ``query`` by ``worker/isolate/js_d1.py``. Its queries run one after another."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from worker.bindings.binding import Binding, BindingError
from worker.bindings.d1_file import D1Error, D1File, Job, Result
from worker.bindings.miniflare import object_id

_CLASS = "miniflare-D1DatabaseObject"


class D1Database(Binding):
    """The database in the file ``path``."""

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "roost-d1")
        self._file: D1File | None = None
        self._job = Job()
        self._answered = 0

    def described(self) -> dict[str, Any]:
        """See :meth:`Binding.described`."""
        return {"kind": "d1"}

    async def call(self, method: str, args: list[Any]) -> Any:
        """``query`` of a list of ``{"sql": …, "params": […]}``: their results, all or none, and a bookmark.

        Cancelling this stops SQLite, and rolls back.
        """
        if method != "query":
            return await super().call(method, args)
        statements = [(str(each["sql"]), list(each.get("params") or ())) for each in args[0]]
        job = Job()
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, self._run, statements, job)
        except D1Error as error:
            raise BindingError(str(error)) from error
        finally:
            job.cancelled = True  # nobody waits for it any longer
        self._answered += 1
        results = [{"columns": each.columns, "rows": each.rows, "meta": each.meta} for each in found]
        return {"results": results, "bookmark": f"{0:08x}-{self._answered:08x}-{0:08x}-{0:032x}"}

    async def aclose(self) -> None:
        """Close the file."""
        self._job.cancelled = True
        if self._file is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._file.close)
        self._thread.shutdown(wait=False)

    def _run(self, statements: list[tuple[str, list[Any]]], job: Job) -> list[Result]:
        self._job = job
        if self._file is None:
            self._file = D1File(self._path)
        return self._file.run(statements, job)


def database_file(state: Path, database: str) -> Path:
    """Where the database with this ``database_id`` lies under the folder ``state``: where miniflare has it, too."""
    return state / "d1" / _CLASS / f"{object_id(_CLASS, database)}.sqlite"
