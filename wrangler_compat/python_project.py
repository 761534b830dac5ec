"""A Python Worker's project: what its configuration says, checked, and the bindings that come of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from worker.bindings.service import Target
from worker.cron import BadCron, Cron
from wrangler_compat.diagnostics import Diagnostics
from wrangler_compat.more_bindings import More, read_more
from wrangler_compat.project import Project, ProjectError

_INHERITED = {
    *(
        "name",
        "main",
        "account_id",
        "compatibility_date",
        "compatibility_flags",
        "rules",
        "triggers",
        "route",
        "routes",
    ),
    *("workers_dev", "preview_urls", "base_dir", "find_additional_modules", "preserve_file_names", "jsx_factory"),
    *("jsx_fragment", "tsconfig", "assets", "limits", "placement", "build", "migrations", "exports", "no_bundle"),
    *("minify", "keep_names", "logpush", "observability", "upload_source_maps", "cache", "compliance_region"),
    *("python_modules", "logfwdr", "dev", "env", "site", "keep_vars", "send_metrics", "legacy_env", "alias"),
    *("wasm_modules", "$schema"),
}
KINDS = {  # every kind of binding, and where its names stand: a key of a list, or of the one inside
    "kv_namespaces": "binding",
    "services": "binding",
    "d1_databases": "binding",
    "r2_buckets": "binding",
    "vectorize": "binding",
    "hyperdrive": "binding",
    "analytics_engine_datasets": "binding",
    "workflows": "binding",
    "dispatch_namespaces": "binding",
    "mtls_certificates": "binding",
    "pipelines": "binding",
    "secrets_store_secrets": "binding",
    "send_email": "name",
    "ratelimits": "name",
    "queues": "producers",
    "durable_objects": "bindings",
    "browser": "binding",
    "images": "binding",
    "version_metadata": "binding",
    "ai": "binding",
}
_NAMELESS = ("vars", "define", "secrets", "unsafe", "containers", "tail_consumers")
HAVE = (
    *("ai", "kv_namespaces", "d1_databases", "r2_buckets", "services", "vars", "assets", "vectorize", "ratelimits"),
    *("version_metadata", "queues", "analytics_engine_datasets"),
)
"""The kinds of bindings that a Python Worker has in roost; the rest of :data:`KINDS` are missing."""
_SHAPES: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "main": str,
    "compatibility_date": str,
    "compatibility_flags": list,
    "vars": dict,
    "kv_namespaces": list,
    "d1_databases": list,
    "r2_buckets": list,
    "services": list,
    "triggers": dict,
    "assets": dict,
    "ai": dict,
}
_ASSETS = {
    "html_handling": ("auto-trailing-slash", "force-trailing-slash", "drop-trailing-slash", "none"),
    "not_found_handling": ("none", "404-page", "single-page-application"),
}
_RULES = 100  # of run_worker_first
_ALSO = {  # what an entry of a list may have, beside its binding and what that leads to
    "kv_namespaces": ("preview_id",),
    "d1_databases": ("database_name", "preview_database_id", "migrations_dir", "migrations_table"),
    "r2_buckets": ("preview_bucket_name", "jurisdiction"),
    "services": ("environment", "entrypoint", "props"),
}
_BUCKET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")  # a binding's name is one, too
_NAME = re.compile(r"[a-z0-9_][a-z0-9_-]*")
_WORDS = {str: "text", list: "a list", dict: "a table"}


@dataclass(frozen=True, slots=True)
class PythonProject:
    """A checked project. ``missing``: bindings that roost doesn't have, with their kinds."""

    project: Project
    name: str
    main: Path
    date: str
    flags: list[str]
    crons: list[Cron]
    kv: dict[str, str]
    d1: dict[str, str]
    r2: dict[str, str]
    services: dict[str, Target]
    more: More
    missing: dict[str, str]
    warnings: list[str]

    @property
    def assets(self) -> Mapping[str, Any]:
        """wrangler's ``assets``, empty for none."""
        found: Mapping[str, Any] = self.project.settings.get("assets") or {}
        return found


def is_python(project: Project) -> bool:
    """Whether the project's Worker is one in Python."""
    return project.main is not None and project.main.suffix == ".py"


def read_python_project(project: Project, *, allow_missing: bool) -> PythonProject:
    """Check what ``project`` says; raises :class:`ProjectError` with every mistake in it, a line each."""
    found = Diagnostics(project.config)
    settings = project.settings
    for key in settings:
        if key not in _INHERITED and key not in KINDS and key not in _NAMELESS:
            found.unknown(key, [*_INHERITED, *KINDS, *_NAMELESS])
    wrong = {key for key, kind in _SHAPES.items() if key in settings and not _is(settings[key], kind, key, found)}
    if absent := [name for name in project.required_secrets() or () if name not in project.variables()]:
        found.warning(f"no value for {', '.join(absent)}: .dev.vars or .env has none", "secrets", "required")
    for key in project.not_inherited:
        found.warning(f'"{key}" stands at the top level, but env.{project.environment} does not inherit it', key)
    good = {key: value for key, value in settings.items() if key not in wrong}
    if project.main is not None and not project.main.is_file():
        found.error(f"there is no {settings['main']}", "main")
    missing = {}
    for kind, name in _missing(good):
        missing[name] = kind
        if not allow_missing:
            found.error(
                f"{name} is one of {kind}, which roost doesn't have: --allow-missing starts without it", kind, name
            )
    kv = {name: str(entry.get("id") or name) for name, entry in _named(good, "kv_namespaces", "id", found)}
    d1 = {name: _database(name, entry) for name, entry in _named(good, "d1_databases", "database_id", found)}
    r2 = {name: _bucket(name, entry, found) for name, entry in _named(good, "r2_buckets", "bucket_name", found)}
    services = {name: _target(name, entry, found) for name, entry in _named(good, "services", "service", found)}
    more = read_more(good, found)
    crons = list(_crons(good, found))
    flags = [str(flag) for flag in good.get("compatibility_flags", ())]
    if "python_workers" not in flags and "compatibility_flags" not in wrong:
        found.error('a Python Worker needs compatibility_flags = ["python_workers"]', "compatibility_flags")
    _check_assets(good, project.folder, found)
    _check_identity(good, found)
    _check_objects(good, found)
    if found.errors:
        raise ProjectError("\n".join([*found.errors, *found.warnings]))
    assert project.main is not None
    day = str(good.get("compatibility_date", date.today().isoformat()))
    name = str(good.get("name") or project.folder.name)
    stored = (kv, d1, r2, services, more)
    return PythonProject(project, name, project.main, day, flags, crons, *stored, missing, found.warnings)


def _check_objects(settings: Mapping[str, Any], found: Diagnostics) -> None:
    """Refuse what names no binding, which would start as if there were no Durable Objects in it."""
    objects = settings.get("durable_objects", {})
    entries = objects.get("bindings", ()) if isinstance(objects, Mapping) else None
    if not isinstance(entries, list | tuple):
        return found.error('"durable_objects" must be a table with a list of "bindings"', "durable_objects")
    for entry in entries:
        if not isinstance(entry, Mapping) or not all(isinstance(entry.get(key), str) for key in ("name", "class_name")):
            found.error('each of durable_objects.bindings needs a "name" and a "class_name"', "durable_objects")


def _check_identity(settings: Mapping[str, Any], found: Diagnostics) -> None:
    name, day = settings.get("name"), settings.get("compatibility_date")
    if name is not None and not _NAME.fullmatch(name):
        found.error(f'"name" is of lower-case letters, digits, - and _, and not {name!r}', "name")
    if day is not None and not _is_date(str(day)):
        found.error(f'"compatibility_date" is a day such as 2026-01-31, and not {str(day)!r}', "compatibility_date")


def _is_date(day: str) -> bool:
    try:
        return date.fromisoformat(day).isoformat() == day
    except ValueError:
        return False


def _check_assets(settings: Mapping[str, Any], folder: Path, found: Diagnostics) -> None:
    if "assets" not in settings:
        return
    assets = settings["assets"]
    if not (folder / str(assets.get("directory", ""))).is_dir():
        found.error("assets.directory is no folder", "assets", "directory")
    for key, words in _ASSETS.items():
        if assets.get(key, words[0]) not in words:
            found.error(f"assets.{key} is one of {', '.join(words)}, and not {assets[key]!r}", "assets", key)
    rules = assets.get("run_worker_first", False)
    if isinstance(rules, bool):
        return
    good = [rule for rule in rules if isinstance(rule, str)] if isinstance(rules, list) else []
    if not good or len(good) > _RULES or len(good) != len(rules):
        found.error(f"assets.run_worker_first is true, false or up to {_RULES} paths", "assets", "run_worker_first")
    elif wrong := [rule for rule in good if not rule.removeprefix("!").startswith("/")]:
        sentence = f"{', '.join(wrong)} in assets.run_worker_first: a rule begins with / or !/"
        found.error(sentence, "assets", "run_worker_first")
    elif all(rule.startswith("!") for rule in good):
        found.error("assets.run_worker_first has rules with ! alone", "assets", "run_worker_first")


def _is(value: Any, kind: Any, key: str, found: Diagnostics) -> bool:
    if isinstance(value, kind):
        return True
    found.error(f'"{key}" must be {_WORDS[kind]}, but it is {value!r}', key)
    return False


def _missing(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for kind, key in KINDS.items():
        if kind in HAVE or not settings.get(kind):
            continue
        entries = settings[kind]
        if key == "bindings":
            entries, key = entries.get(key) if isinstance(entries, Mapping) else None, "name"
        for entry in entries if isinstance(entries, list) else [entries]:
            if isinstance(entry, Mapping) and key in entry:
                yield kind, str(entry[key])


def _named(
    settings: Mapping[str, Any], kind: str, other: str, found: Diagnostics
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The bindings of a list; what stands under ``other`` is theirs, which but for services may be nothing."""
    for entry in settings.get(kind, ()):
        name = entry.get("binding") if isinstance(entry, Mapping) else None
        if not isinstance(name, str) or (kind == "services" and not isinstance(entry.get(other), str)):
            found.error(f'each of {kind} needs a "binding"{" and a service" if kind == "services" else ""}', kind)
            continue
        for key in entry:
            if key not in ("binding", other, "remote", *_ALSO[kind]):
                found.unknown(key, ("binding", other, *_ALSO[kind]), kind)
        yield name, entry


def _database(name: str, entry: Mapping[str, Any]) -> str:
    """What a database is known by; wrangler dev prefers the one for previews."""
    return str(entry.get("preview_database_id") or entry.get("database_id") or name)


def _bucket(name: str, entry: Mapping[str, Any], found: Diagnostics) -> str:
    bucket = str(entry.get("bucket_name") or name)
    if not _BUCKET.fullmatch(bucket):
        found.error(f'"{bucket}" is no name of a bucket: letters, digits, - and _, 63 at most', "r2_buckets", bucket)
    return bucket


def _target(name: str, entry: Mapping[str, Any], found: Diagnostics) -> Target:
    entrypoint, props = entry.get("entrypoint"), entry.get("props") or {}
    if entrypoint is not None and not isinstance(entrypoint, str):
        found.error(f"{name} names an entrypoint that is no text: {entrypoint!r}", "services", "entrypoint")
    if not isinstance(props, Mapping):
        found.error(f"{name} has props that are no table: {props!r}", "services", "props")
        props = {}
    return Target(str(entry["service"]), None if entrypoint in (None, "default") else str(entrypoint), props)


def _crons(settings: Mapping[str, Any], found: Diagnostics) -> Iterator[Cron]:
    for pattern in settings.get("triggers", {}).get("crons") or ():
        try:
            yield Cron.parse(str(pattern))
        except BadCron as error:
            found.error(str(error), "triggers", "crons")
