"""The project's own wrangler: where it is, and how it is called."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from wrangler_compat.project import Project, ProjectError


def wrangler_dev(project: Project, port: int | None, config: Path | None, more: Sequence[str]) -> list[str]:
    """The command line of ``wrangler dev`` for ``project``; raises :class:`ProjectError` where there is no wrangler."""
    command = [*find_wrangler(project.folder), "dev"]
    if port is not None:
        command += ["--port", str(port)]
    if project.environment:
        command += ["--env", project.environment]
    if config is not None:
        command += ["--config", str(project.config)]
    return [*command, *more]


def find_wrangler(folder: Path) -> list[str]:
    """wrangler in the nearest ``node_modules``, run by node itself; else through npx, which may offer to fetch it."""
    node = shutil.which("node")
    if node:
        for modules in node_modules(folder):
            entry = _bin(modules / "wrangler", "wrangler")
            if entry is not None:
                return [node, str(entry)]
    npx = shutil.which("npx")
    if npx is None:
        missing = "wrangler" if node else "Node.js"
        raise ProjectError(
            f"roost dev runs this project's own wrangler, and there is no {missing} here: install Node.js 20 or newer, "
            "then type npm install --save-dev wrangler"
        )
    return [npx, "wrangler"]


def node_modules(folder: Path) -> Iterator[Path]:
    """The ``node_modules`` folders that Node looks in from ``folder``, nearest first."""
    for place in (folder, *folder.parents):
        if (place / "node_modules").is_dir():
            yield place / "node_modules"


def _bin(package: Path, name: str) -> Path | None:
    """The file that a package says its command is."""
    try:
        stated = json.loads((package / "package.json").read_text(encoding="utf-8"))["bin"]
        return package / str(stated if isinstance(stated, str) else stated[name])
    except (OSError, ValueError, KeyError, TypeError):
        return None
