"""Static assets: the files of a folder under the paths that Cloudflare gives them.

Rules: developers.cloudflare.com/workers/static-assets/routing (html_handling, not_found_handling, run_worker_first).
"""

from __future__ import annotations

import fnmatch
import hashlib
import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from worker.bindings.binding import Binding, Incoming, Outgoing

_PRIVATE = ("_headers", "_redirects", ".assetsignore", ".dev.vars", "wrangler.toml", "wrangler.json", "wrangler.jsonc")


class Assets(Binding):
    """The files in ``folder``. The other arguments are wrangler's settings of ``assets``."""

    def __init__(
        self,
        folder: Path,
        *,
        html_handling: str = "auto-trailing-slash",
        not_found_handling: str = "none",
        run_worker_first: bool | Sequence[str] = False,
    ) -> None:
        self._folder = folder.resolve()
        self._html = html_handling
        self._not_found = not_found_handling
        self._worker_first = run_worker_first

    def before_worker(self, request: Outgoing) -> Incoming | None:
        """The asset that answers ``request`` without the Worker, if one does."""
        path = unquote(urlsplit(request.url).path)
        if request.method not in ("GET", "HEAD") or self._is_workers(path):
            return None
        found = self._found(path)
        return None if found is None else self._answered(found, request, 200)

    async def fetch(self, request: Outgoing) -> Incoming:
        """What ``env.ASSETS.fetch`` gives: the asset, or what stands in for one that isn't there."""
        if request.method not in ("GET", "HEAD"):
            return Incoming(405, [("allow", "GET, HEAD")])
        found = self._found(unquote(urlsplit(request.url).path))
        if found is not None:
            return self._answered(found, request, 200)
        if self._not_found == "single-page-application" and (page := self._file("/index.html")):
            return self._answered(page, request, 200)
        if self._not_found == "404-page" and (page := self._page_404(urlsplit(request.url).path)):
            return self._answered(page, request, 404)
        return Incoming(404)

    def _is_workers(self, path: str) -> bool:
        rules = self._worker_first
        if isinstance(rules, bool):
            return rules
        if any(fnmatch.fnmatchcase(path, rule[1:]) for rule in rules if rule.startswith("!")):
            return False
        return any(fnmatch.fnmatchcase(path, rule) for rule in rules)

    def _found(self, path: str) -> Path | str | None:
        """The file at ``path``, or the path that it has moved to."""
        if self._html == "none":
            return self._file(path)
        if path.endswith(("/index.html", "/index")):
            base = path.removesuffix(".html").removesuffix("index")
            if self._file(f"{base}index.html"):
                return self._slashed(base)
        if path.endswith(".html") and self._file(path):
            return self._slashed(path.removesuffix(".html"))
        if (exact := self._file(path)) is not None:
            return exact
        bare = path.rstrip("/")
        as_file, as_index = self._file(f"{bare}.html") if bare else None, self._file(f"{bare}/index.html")
        if as_file is None and as_index is None:
            return None
        if self._html == "auto-trailing-slash":
            wanted = bare if as_file is not None else f"{bare}/"
        else:
            wanted = self._slashed(bare)
        return (as_file or as_index) if path == (wanted or "/") else wanted or "/"

    def _slashed(self, path: str) -> str:
        bare = path.rstrip("/")
        if self._html == "force-trailing-slash" or (self._html == "auto-trailing-slash" and path.endswith("/")):
            return f"{bare}/"
        return bare or "/"

    def _file(self, path: str) -> Path | None:
        file = (self._folder / path.lstrip("/")).resolve()
        inside = file.is_relative_to(self._folder) and file.name not in _PRIVATE
        return file if inside and "\0" not in path and file.is_file() else None

    def _page_404(self, path: str) -> Path | None:
        folders = path.split("/")[:-1]
        return next(
            (
                found
                for depth in range(len(folders), 0, -1)
                if (found := self._file("/".join(folders[:depth]) + "/404.html"))
            ),
            None,
        )

    def _answered(self, found: Path | str, request: Outgoing, status: int) -> Incoming:
        if isinstance(found, str):
            query = urlsplit(request.url).query
            return Incoming(307, [("location", found + (f"?{query}" if query else ""))])
        data = found.read_bytes()
        tag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
        kind = mimetypes.guess_type(found.name)[0] or "application/octet-stream"
        if kind.startswith("text/") or kind == "application/javascript":
            kind += "; charset=utf-8"
        headers = [("content-type", kind), ("etag", tag), ("cache-control", "public, max-age=0, must-revalidate")]
        asked = dict(request.headers).get("if-none-match", "")
        if status == 200 and asked.removeprefix("W/") == tag:
            return Incoming(304, headers[1:])
        headers.append(("content-length", str(len(data))))
        return Incoming(status, headers, data if request.method != "HEAD" else b"")


def assets_of(folder: Path, settings: Mapping[str, Any]) -> Assets:
    """The assets that ``settings`` (wrangler's ``assets``) describe, relative to ``folder``."""
    known = ("html_handling", "not_found_handling", "run_worker_first")
    return Assets(folder / str(settings["directory"]), **{name: settings[name] for name in known if name in settings})
