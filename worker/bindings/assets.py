"""Static assets: the files of a folder under the paths that Cloudflare gives them.

Rules: developers.cloudflare.com/workers/static-assets/routing (html_handling, not_found_handling, run_worker_first).
``_redirects`` and ``_headers`` in the folder are read again when they change.
"""

from __future__ import annotations

import hashlib
import logging
import mimetypes
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from worker.bindings.asset_rules import HeaderRules, Redirects
from worker.bindings.binding import Binding, Incoming, Outgoing

_log = logging.getLogger("roost.worker")
_PRIVATE = ("_headers", "_redirects", ".assetsignore", ".dev.vars", "wrangler.toml", "wrangler.json", "wrangler.jsonc")
_TYPES = mimetypes.MimeTypes()  # Python's own table: a system's has other names for some
for _kind, _endings in {
    "text/javascript": ".js .mjs",
    "text/markdown": ".md",
    "application/json": ".map",
    "application/manifest+json": ".webmanifest",
    "application/wasm": ".wasm",
    "font/woff": ".woff",
    "font/woff2": ".woff2",
    "image/avif": ".avif",
    "image/webp": ".webp",
}.items():
    for _ending in _endings.split():
        _TYPES.add_type(_kind, _ending)


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
        self._seen: tuple[bytes | None, bytes | None] = (None, None)
        self._redirects, self._headers = Redirects(), HeaderRules()
        self._read_rules()

    def before_worker(self, request: Outgoing) -> Incoming | None:
        """The asset, or the redirect, that answers ``request`` without the Worker, if one does."""
        parts = urlsplit(request.url)
        if self._is_workers(unquote(parts.path)):
            return None
        self._read_rules()
        shown, answer = self._redirected(request)
        if answer is None:
            if request.method not in ("GET", "HEAD"):
                return None
            found = self._found(unquote(shown))
            if found is None and shown == parts.path:
                return None
            answer = Incoming(404) if found is None else self._answered(found, request, 200)
        return self._with_headers(answer, request)

    async def fetch(self, request: Outgoing) -> Incoming:
        """What ``env.ASSETS.fetch`` gives: the asset, or what stands in for one that isn't there."""
        self._read_rules()
        shown, answer = self._redirected(request)
        return self._with_headers(answer or self._shown(unquote(shown), request), request)

    def _shown(self, path: str, request: Outgoing) -> Incoming:
        if request.method not in ("GET", "HEAD"):
            return Incoming(405, [("allow", "GET, HEAD")])
        found = self._found(path)
        if found is not None:
            return self._answered(found, request, 200)
        if self._not_found == "single-page-application" and (page := self._file("/index.html")):
            return self._answered(page, request, 200)
        if self._not_found == "404-page" and (page := self._page_404(path)):
            return self._answered(page, request, 404)
        return Incoming(404)

    def _read_rules(self) -> None:
        """Follow the two files of rules; what is wrong in them is told once."""
        now = _text(self._folder / "_redirects"), _text(self._folder / "_headers")
        if now == self._seen:
            return
        self._seen = now
        redirects, headers = ((text or b"").decode(errors="replace") for text in now)
        self._redirects = Redirects.read(redirects, html=self._html != "none")
        self._headers = HeaderRules.read(headers)
        for name, rules in (("_redirects", self._redirects), ("_headers", self._headers)):
            for problem in rules.problems:
                _log.warning("%s: %s", name, problem)

    def _redirected(self, request: Outgoing) -> tuple[str, Incoming | None]:
        """The path whose asset is shown, and the redirect in place of it, if a rule says so."""
        asked = urlsplit(request.url)
        rule = self._redirects.found(asked.path)
        if rule is None:
            return asked.path, None
        there = urlsplit(urljoin(request.url, rule.target))
        if rule.status == 200:
            return there.path, None
        there = there._replace(query=there.query or asked.query)
        if there[:2] == asked[:2]:
            there = there._replace(scheme="", netloc="")
        return asked.path, Incoming(rule.status, [("location", there.geturl())])

    def _with_headers(self, answer: Incoming, request: Outgoing) -> Incoming:
        parts = urlsplit(request.url)
        return replace(answer, headers=self._headers.applied(answer.headers, parts.hostname or "", parts.path))

    def _is_workers(self, path: str) -> bool:
        rules = self._worker_first
        if isinstance(rules, bool):
            return rules
        if any(_meets(rule[1:], path) for rule in rules if rule.startswith("!")):
            return False
        return any(_meets(rule, path) for rule in rules)

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
        kind = _TYPES.guess_type(found.name)[0] or "application/octet-stream"
        kind += "; charset=utf-8" if kind.startswith("text/") else ""
        asked = dict(request.headers)
        headers = [("content-type", kind), ("etag", tag)]
        if "authorization" not in asked and "range" not in asked:  # as the platform: what a cache may keep
            headers.append(("cache-control", "public, max-age=0, must-revalidate"))
        if asked.get("if-none-match", "").removeprefix("W/") == tag:
            return Incoming(304, headers)
        headers.append(("content-length", str(len(data))))
        return Incoming(status, headers, data if request.method != "HEAD" else b"")


def _meets(rule: str, path: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, rule.split("*"))), path) is not None


def _text(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


def assets_of(folder: Path, settings: Mapping[str, Any]) -> Assets:
    """The assets that ``settings`` (wrangler's ``assets``) describe, relative to ``folder``."""
    known = ("html_handling", "not_found_handling", "run_worker_first")
    return Assets(folder / str(settings["directory"]), **{name: settings[name] for name in known if name in settings})
