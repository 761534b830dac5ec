"""An isolate's life: it hears what it is, sets its path and its modules, imports the Worker, and serves."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from typing import Any

from . import js_base, js_websockets
from .context import go_on_with
from .entry import BadWorker, Entry
from .faults import told
from .host import Host
from .inspecting import set_breakpoint_hook
from .js_ai import Ai
from .js_analytics import AnalyticsEngineDataset
from .js_bindings import Env, Fetcher, Missing, host_binding
from .js_d1 import D1Database
from .js_globals import js_module
from .js_json import parse
from .js_queues import WorkerQueue
from .js_r2 import R2Bucket
from .paths import module_name, set_path
from .pyodide_modules import install
from .serving import Serving
from .watch import Watch

_NULL_SINCE = "2025-09-29"
"""The compatibility date of Pyodide 0.28, where null is no longer None."""

_BLOBS_SINCE = "2026-03-17"
"""The compatibility date from which binary messages of a WebSocket are Blobs, as on the web."""


def run(control_fd: int) -> None:
    """Be the isolate that the first line on the control socket describes."""
    control = socket.socket(fileno=control_fd)
    given = json.loads(_line(control))
    _limit_memory(given["memory"])
    if given["inspect"] != "pdb":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    watch = Watch(control, given["wall_limit"])
    watch.start()
    try:
        asyncio.run(_serve(given, watch))
    except BaseException as error:
        watch.end(told(error))


async def _serve(given: dict[str, Any], watch: Watch) -> None:
    set_path(given["folders"], given["root"], given["sdk"])
    set_breakpoint_hook(given["inspect"])
    if given["date"] < _NULL_SINCE and "python_workers_20250116" not in given["flags"]:
        js_base.null_is_none()
    if given["date"] >= _BLOBS_SINCE or "websocket_standard_binary_type" in given["flags"]:
        js_websockets.binary_is_blob()
    host = Host(given["host"])
    env = Env({each["name"]: _binding(host, each) for each in given["bindings"]})
    install(js_module(host), env, go_on_with, given["flags"])
    try:
        serving = Serving(Entry(module_name(given["main"]), given["flags"], given["date"], env))
    except BadWorker as error:
        return watch.end({"name": "BadWorker", "message": str(error), "traceback": "", "fatal": True})
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(serving.connection, given["socket"])
    watch.follow(loop, serving.retire)
    watch.say(ready=True)
    async with server:
        await serving.until_retired()


def _binding(host: Host, described: dict[str, Any]) -> Any:
    name = described["name"]
    match described["kind"]:
        case "variable":
            return parse(json.dumps(described["value"]))
        case "ai":
            return Ai(host, name)
        case "fetcher":
            return Fetcher(host, name, calls=described["calls"])
        case "d1":
            return D1Database(host, name)
        case "r2":
            return R2Bucket(host, name)
        case "queue":
            return WorkerQueue(host, name)
        case "analytics":
            return AnalyticsEngineDataset(host, name)
        case "missing":
            return Missing(name, described["what"])
    return host_binding(host, name, described["js_class"], tuple(described["methods"]))


def _limit_memory(size: int | None) -> None:
    """Let an allocation past ``size`` bytes of data raise a MemoryError, where the system can."""
    if size is None or not sys.platform.startswith("linux"):
        return
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def _line(control: socket.socket) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        if not (piece := control.recv(65_536)):
            raise SystemExit  # roost has gone already
        line += piece
    return bytes(line)
