"""The Worker project in a folder: its configuration file, the environment chosen in it, what that says.

Rules as wrangler 4 has them (``workers-utils/src/config``): which file is found, what an environment inherits.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from wrangler_compat.jsonc import parse_jsonc

_DEPLOY = Path(".wrangler", "deploy", "config.json")
STATE = Path(".wrangler", "state")
"""Where a project keeps what its Workers store on this machine."""
_NAMES = ("wrangler.json", "wrangler.jsonc", "wrangler.toml")
_OWN = {  # what an environment does not inherit
    *("ai", "analytics_engine_datasets", "browser", "containers", "d1_databases", "define", "dispatch_namespaces"),
    *("durable_objects", "hyperdrive", "images", "kv_namespaces", "mtls_certificates", "pipelines", "queues"),
    *("r2_buckets", "ratelimits", "secrets", "secrets_store_secrets", "send_email", "services", "tail_consumers"),
    *("unsafe", "vars", "vectorize", "version_metadata", "workflows"),
}


class ProjectError(ValueError):
    """A project that can't be run; one sentence says what to do."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project as one of its environments has it. ``notes``: what its owner should know before it runs.

    ``not_inherited``: settings of the top level that the environment lacks. ``redirected_from``: the folder of the
    user's own configuration, where a build tool wrote ``config``. ``env_files``: in place of the usual ones.
    """

    config: Path
    environment: str | None
    settings: Mapping[str, Any]
    notes: list[str] = field(default_factory=list)
    not_inherited: Sequence[str] = ()
    redirected_from: Path | None = None
    env_files: Sequence[Path] = ()

    @property
    def folder(self) -> Path:
        """The configuration's folder, which its paths are relative to."""
        return self.config.parent

    @property
    def home(self) -> Path:
        """The folder of the user's own configuration: secrets and state stand there."""
        return self.redirected_from or self.folder

    @property
    def main(self) -> Path | None:
        """The Worker's entry, ``None`` for a project of static assets alone."""
        main = self.settings.get("main")
        return (self.folder / str(main)).resolve() if main else None

    @property
    def ai_binding(self) -> str | None:
        """The name under which the Worker has the AI binding in its ``env``."""
        ai = self.settings.get("ai")
        return str(ai.get("binding", "AI")) if isinstance(ai, Mapping) else None

    def variables(self) -> dict[str, Any]:
        """``vars``, and over them ``.dev.vars.<environment>`` or else ``.dev.vars``, or else the ``.env`` files.

        Files given by hand take the place of all of them. Where ``secrets`` names those that are required, no others
        are taken, and the process's own environment may have them.
        """
        plain, local = self.settings.get("vars") or {}, self._local_variables()
        if (required := self.required_secrets()) is not None:
            there = {**os.environ, **local}
            local = {name: there[name] for name in there if name in required or (name in local and name in plain)}
        return {**plain, **local}

    def required_secrets(self) -> list[str] | None:
        """The names under ``secrets.required``, ``None`` where nothing is said of them."""
        secrets = self.settings.get("secrets")
        required = secrets.get("required") if isinstance(secrets, Mapping) else None
        return [str(name) for name in required] if isinstance(required, list) else None

    def _local_variables(self) -> dict[str, str]:
        suffix = f".{self.environment}" if self.environment else None
        names = () if self.env_files else ((f".dev.vars{suffix}", ".dev.vars") if suffix else (".dev.vars",))
        for name in names:
            if (self.home / name).is_file():
                return _read_dotenv(self.home / name)
        files = [self.home / file for file in self.env_files]
        if not files and os.environ.get("CLOUDFLARE_LOAD_DEV_VARS_FROM_DOT_ENV") != "false":
            names = (".env", ".env.local", *((f".env{suffix}", f".env{suffix}.local") if suffix else ()))
            files = [self.home / name for name in names]
        found: dict[str, str] = {}
        for file in files:
            found |= _read_dotenv(file)
        if os.environ.get("CLOUDFLARE_INCLUDE_PROCESS_ENV") == "true":
            found |= os.environ
        return found


def open_project(
    start: Path, config: Path | None = None, environment: str | None = None, env_files: Sequence[Path] = ()
) -> Project:
    """The project of ``config``, or of the file found from ``start`` upwards; raises :class:`ProjectError`.

    What a build tool left in ``.wrangler/deploy/config.json`` leads to another file, where none is given.
    """
    path = config.resolve() if config else find_configuration(start.resolve())
    redirected = None if config else _redirected(start.resolve(), path)
    own, path = path, redirected or path
    document = _read(path)
    sections = document.get("env") or {}
    if redirected and (sections or environment):
        raise ProjectError(
            f"{path} was made by a build tool for one environment: choose it when you build, not by --env"
        )
    notes = []
    not_inherited: list[str] = []
    settings = {name: value for name, value in document.items() if name != "env"}
    if environment:
        if sections and environment not in sections:
            raise ProjectError(f'{path.name} has no environment "{environment}": it has {", ".join(sections)}')
        chosen = sections.get(environment) or {}
        settings = {**{name: value for name, value in settings.items() if name not in _OWN}, **chosen}
        not_inherited = sorted(_OWN & document.keys() - chosen.keys())
        if "name" in document and "name" not in chosen and environment in sections:
            settings["name"] = f"{document['name']}-{environment}"
        if "ai" in not_inherited:
            notes.append(
                f'"ai" stands at the top level of {path.name} but not in env.{environment}, which does not inherit it: '
                "the Worker will have no AI binding"
            )
    if "ai" not in document and "ai" not in settings:
        notes.append(f'{path.name} has no AI binding: add "ai": {{"binding": "AI"}}')
    ai = settings.get("ai")
    if isinstance(ai, Mapping) and ai.get("remote") is False:
        notes.append('"ai" has "remote": false, which newer wranglers refuse: leave it out')
    for name in env_files:
        if not (own.parent / name).is_file():
            raise ProjectError(f"there is no {name} in {own.parent}")
    if redirected:
        notes.append(f"{own.name} is passed over for {path}, as {_DEPLOY} says")
    from_ = own.parent if redirected else None
    return Project(path, environment, settings, notes, not_inherited, from_, tuple(env_files))


def find_configuration(start: Path) -> Path:
    """The configuration for the folder ``start``, there or above; raises :class:`ProjectError` for none."""
    for name in _NAMES:
        for folder in (start, *start.parents):
            if (folder / name).is_file():
                return folder / name
    raise ProjectError(f"no wrangler.jsonc, wrangler.json or wrangler.toml in {start} or above it")


def _redirected(start: Path, own: Path) -> Path | None:
    """The configuration that a build tool made, and named in its own file beside the user's."""
    told = next((folder / _DEPLOY for folder in (start, *start.parents) if (folder / _DEPLOY).is_file()), None)
    if told is None:
        return None
    if told != own.parent / _DEPLOY:
        raise ProjectError(f"{told} and {own} don't stand in one folder, so that it isn't clear which one counts")
    named = _read(told).get("configPath")
    if not isinstance(named, str):
        raise ProjectError(f'{told} has no "configPath"')
    path = (told.parent / named).resolve()
    if not path.is_file():
        raise ProjectError(f"{told} leads to {path}, which isn't there: build the project, or delete that file")
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text) if path.suffix == ".toml" else parse_jsonc(text)
    except OSError as error:
        raise ProjectError(f"{path} can't be read: {error.strerror}") from error
    except RecursionError as error:
        raise ProjectError(f"{path.name}: it is nested too deep") from error
    except ValueError as error:
        raise ProjectError(f"{path.name}: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("env", {}), dict):
        raise ProjectError(f"{path.name}: expected a table of settings")
    return document


def _read_dotenv(path: Path) -> dict[str, str]:
    return {name: value for name, value in dotenv_values(path).items() if value is not None}
