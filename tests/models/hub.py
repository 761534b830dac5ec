"""A server that speaks the Hugging Face hub's protocol for one repository in a folder, and keeps what it was asked.

Source: huggingface_hub's client (``hf_api.model_info``, ``file_download.get_hf_file_metadata``).
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LICENSE = "apache-2.0"


class Hub(ThreadingHTTPServer):
    """``repository`` (``owner/name``) as the files in ``folder``. ``token``: whoever lacks it meets a gate.

    ``cut``: after how many bytes of a file the connection breaks, once per entry; ``stall``: after how many no more
    come, until ``go_on`` is set. ``sent``: what was sent, in order.
    """

    daemon_threads = True

    def __init__(self, repository: str, folder: Path, *, token: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repository, self.folder, self.token = repository, folder, token
        self.cut: dict[str, int] = {}
        self.stall: dict[str, int] = {}
        self.go_on = threading.Event()
        self.sent: list[tuple[str, int]] = []  # names, and the byte from which

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve while the block runs."""
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""

    def _answer(self) -> None:
        hub = self.server
        path = self.path.partition("?")[0]
        if hub.token and self.headers.get("authorization") != f"Bearer {hub.token}":
            self._send(403, b'{"error": "gated"}', {"X-Error-Code": "GatedRepo"})
        elif path.startswith(f"/api/models/{hub.repository}"):
            self._send(200, json.dumps(self._info()).encode(), {})
        elif re.match(f"/{hub.repository}/resolve/({COMMIT}|main)/", path):
            self._send_file(hub.folder / path.rsplit("/", 1)[1])
        else:
            self._send(404, b'{"error": "not found"}', {"X-Error-Code": "RepoNotFound"})

    def _info(self) -> dict[str, Any]:
        files = [{"rfilename": path.name, "size": path.stat().st_size} for path in sorted(self.server.folder.iterdir())]
        hub = self.server
        return {"id": hub.repository, "sha": COMMIT, "siblings": files, "cardData": {"license": LICENSE}}

    def _send_file(self, path: Path) -> None:
        if not path.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        whole = path.read_bytes()
        etag = hashlib.sha256(whole).hexdigest()
        asked = self.headers.get("range", "bytes=0-").removeprefix("bytes=").split("-")
        start = int(asked[0] or 0)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if self.headers.get("range"):
            headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        reading = self.command == "GET"
        if reading:
            self.server.sent.append((path.name, start))
        stall = self.server.stall.pop(path.name, None) if reading else None
        cut = self.server.cut.pop(path.name, None) if reading else None
        self._send(206 if "Content-Range" in headers else 200, whole[start:], headers, stall or cut)
        if stall is not None:
            self.wfile.flush()
            self.server.go_on.wait()

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True
