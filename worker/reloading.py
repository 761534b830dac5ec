"""Watches a Worker's folder, and lets the Worker run as its files are now."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from watchfiles import Change, awatch

from worker.isolate_process import WorkerFault
from worker.isolates import PythonWorker

_log = logging.getLogger(__name__)
_PASSED_OVER = {
    ".git",
    ".venv",
    ".venv-workers",
    "node_modules",
    ".wrangler",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
}
_WRITTEN = re.compile(r"(\.(log|out|tmp|sw[a-p]|pid|sock|(db|sqlite3?)(-\w+)?)|~)$", re.IGNORECASE)
"""Names of what programs write while they run: a Worker's own files must not reload it."""
_CALM, _STEP = 50, 20  # milliseconds without another change; between looks


async def keep_reloading(
    worker: PythonWorker, folder: Path, again: Callable[[], None] = lambda: None, more: Sequence[Path] = ()
) -> None:
    """Reload ``worker`` after every change in ``folder``, until cancelled. Requests in flight end on the old files.

    ``again`` lets the Worker become what its configuration says by then. ``more``: other files and folders to watch.
    """

    def concerns(_: Change, path: str) -> bool:
        place = Path(path)
        return not _PASSED_OVER & {*place.parts} and not _WRITTEN.search(place.name)

    async for _ in awatch(folder, *more, watch_filter=concerns, debounce=_CALM, step=_STEP):
        started = time.perf_counter()
        try:
            again()
            await worker.reload()
            _log.info("%s reloaded in %.0f ms", worker.spec.name, (time.perf_counter() - started) * 1000)
        except WorkerFault as fault:
            _log.error("%s", fault.told.get("traceback") or fault)
