"""What the commands do: fetch weights with a notice, serve the doors, show models and what is running."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import json
import logging
import math
import os
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import click
from starlette.applications import Starlette

from catalog import Catalog, ModelCard, Property
from runtime.artifacts import (
    TEXT_EMBEDDINGS,
    TEXT_GENERATION,
    Artifact,
    ArtifactStore,
    Exporter,
    Manifest,
    artifact_key,
)
from runtime.config import EngineConfig
from runtime.device import resolve_device
from runtime.errors import ArtifactError, NoWeights, Refused
from runtime.loading import expected_device
from runtime.pool import Pool
from runtime.precision import PrecisionName
from runtime.tasks import TASKS
from worker import request_log
from worker.bindings import AI
from worker.guard import LOCAL_HOSTS
from worker.request_log import LogFormat
from worker.server import GRACE, bind, serve_until, url_of
from worker.tracing import tracing_from_environment
from wrangler_compat import needs
from wrangler_compat.app import create_app
from wrangler_compat.authority import listen_tls
from wrangler_compat.ending import stop_at_signals
from wrangler_compat.interposing import interposers
from wrangler_compat.running import Running, announced, forget
from wrangler_compat.stand_ins import fetch_stand_in, pull_stand_ins, remove_stand_ins
from wrangler_compat.terminal import progress, table

DEFAULT_PORT = 8790
DEFAULT_ROWS, DEFAULT_CONTEXT, DEFAULT_QUEUE = EngineConfig().rows, EngineConfig().context, EngineConfig().waiting
EXPORT_TASKS = {
    "Text Generation": (TEXT_GENERATION,),
    "Text Embeddings": (TEXT_EMBEDDINGS, "sentence-similarity"),
    "Text Classification": ("text-classification",),
    "Translation": ("text2text-generation",),
    "Summarization": ("text2text-generation",),
    "Automatic Speech Recognition": ("automatic-speech-recognition",),
    "Image Classification": ("image-classification",),
    "Object Detection": ("object-detection",),
}
"""By the catalogue's name of a task: optimum's names of what can answer it, the usual one first."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The options of ``roost serve``; ``port`` is ``None`` where the user named none."""

    host: str = "127.0.0.1"
    port: int | None = None
    token: str | None = None
    cards: tuple[Path, ...] = ()
    no_stand_in: bool = False
    offline: bool = False
    device: str = "auto"
    rows: int = DEFAULT_ROWS
    queue: int = DEFAULT_QUEUE
    context: int = DEFAULT_CONTEXT
    keep_alive: float = 300.0
    memory: float | None = None
    deterministic: bool = True
    json_everywhere: bool = False
    record: Path | None = None
    replay: Path | None = None
    fault: tuple[str, ...] = ()
    fault_seed: int = 0
    debug: bool = False
    tls: bool = False
    grace: float = GRACE
    quiet: bool = False
    log_format: LogFormat = "text"
    log_prompts: bool = False


Beside: TypeAlias = Callable[[str, asyncio.Event], Coroutine[Any, Any, int]]
"""What runs beside the doors: gets their address and the event of the end, and returns an exit status."""


async def serve(options: ServeOptions, beside: Beside | None = None) -> int:
    """Serve the doors until SIGINT or SIGTERM, or until ``beside`` is over; its exit status.

    Running requests get a grace time to end.
    """
    _refuse_open_door(options)
    for name, number in (("--keep-alive", options.keep_alive), ("--memory", options.memory)):
        if number is not None and not 0 <= number < math.inf:
            raise Refused(f"{name} {number}: a number from 0 on is needed")
    request_log.set_up(level=logging.WARNING if options.quiet else logging.INFO, form=options.log_format)
    for room in ("runtime", "worker", "wrangler_compat") if options.debug else ():
        logging.getLogger(room).setLevel(logging.DEBUG)
    between = interposers(options.record, options.replay, options.fault, options.fault_seed)
    store = ArtifactStore()
    catalog = Catalog.load(*options.cards)
    pool = _pool(options, store)
    listener = bind(options.host, DEFAULT_PORT if options.port is None else options.port, or_next=options.port is None)
    tls = listen_tls(tls_folder(store)) if options.tls else None
    fetched = not (options.no_stand_in or options.offline or options.replay)
    fetch_stand_in(allowed=fetched, device=pool.device)
    if any(TASKS.get(card.task.name) == TEXT_EMBEDDINGS for card in catalog):
        fetch_stand_in(allowed=fetched, task=TEXT_EMBEDDINGS)
    url, stop = url_of(listener), stop_at_signals(lambda: forget(run_folder(store), os.getpid()))
    hosts = None if options.token and not _is_loopback(options.host) else LOCAL_HOSTS
    ai = AI(catalog=catalog, pool=pool, json_everywhere=options.json_everywhere, interposers=between)
    if options.log_prompts:
        ai.recent.note = request_log.prompt_of
    app = create_app(ai, hosts=hosts, token=options.token, tracing=tracing_from_environment(ai))
    with announced(run_folder(store), Running(os.getpid(), url, options.token)):
        if beside is None:
            ready = functools.partial(_say_ready, url, catalog, pool, store)
            await serve_until(app, listener, stop, ready, tls, grace=options.grace, last_word=ai.aclose)
            return 0
        return await _serve_beside(app, listener, stop, beside, lambda: _say_ready(url, catalog, pool, store))


def _pool(options: ServeOptions, store: ArtifactStore) -> Pool:
    return Pool(
        store,
        device=options.device,
        stand_in=not options.no_stand_in,
        keep_alive=options.keep_alive or None,
        memory=None if options.memory is None else int(options.memory * 1e9),
        config=EngineConfig(
            options.rows,
            options.queue,
            context=options.context,
            deterministic=options.deterministic,
            debug=options.debug,
        ),
    )


async def _serve_beside(
    app: Starlette, listener: socket.socket, stop: asyncio.Event, beside: Beside, ready: Callable[[], None]
) -> int:
    """The doors stay open until ``beside`` has ended, then close at once: nobody is left to ask."""
    over, started, url = asyncio.Event(), asyncio.Event(), url_of(listener)

    def say_ready() -> None:
        ready()
        started.set()

    async def run_beside() -> int:
        try:
            await started.wait()
            return await beside(url, stop)
        finally:
            over.set()

    running = asyncio.create_task(run_beside())
    await serve_until(app, listener, over, say_ready)
    return await running


@dataclass(frozen=True, slots=True)
class PullOptions:
    """The options of ``roost pull``. ``answers``: the catalogue name that the weights answer for, else ``model``.

    ``task``: what the exporter makes the graph for, by optimum's name; else what the card says.
    """

    model: str | None = None
    source: Path | None = None
    stand_in: bool = False
    precision: PrecisionName | None = None
    answers: str | None = None
    device: str = "auto"
    kv: str = "float"
    exporter: Exporter = "roost"
    task: str | None = None
    cards: tuple[Path, ...] = ()


def pull(options: PullOptions) -> Artifact:
    """``roost pull``: the stand-in's artifact, or a model's own from a file, a folder or the hub."""
    store = ArtifactStore()
    if options.stand_in:
        return pull_stand_ins(store, options.source, resolve_device(options.device))
    answers = options.answers or options.model
    if answers is None:
        raise Refused("name a MODEL, or --stand-in")
    catalog = Catalog.load(*options.cards)
    task = _export_task(catalog[answers], options)
    from runtime.pull_model import Tell, Wanted, pull_from, pull_from_hub  # brings onnx and gguf

    device = resolve_device(options.device)
    wanted = Wanted(answers, options.precision, device, options.kv == "int8", options.exporter, task)
    with progress() as report:
        tell = Tell(report, functools.partial(click.echo, err=True))
        if options.source is not None:
            return pull_from(store, wanted, options.source, tell)
        return pull_from_hub(store, wanted, _repository(catalog, options.model or answers), tell)


def _export_task(card: ModelCard, options: PullOptions) -> str:
    """What the graph is to be for, by optimum's name; it must be what the card performs."""
    if options.task is not None and options.exporter == "roost":
        raise Refused("--task is for --exporter optimum: what roost itself builds follows from the card")
    known = EXPORT_TASKS.get(card.task.name, ())
    if options.exporter == "roost":
        return TASKS.get(card.task.name, TEXT_GENERATION)
    task = options.task or (known[0] if known else TEXT_GENERATION)
    if task not in known:
        raise Refused(f"{card.name} performs {card.task.name}, which no export for {task} can answer")
    return task


def _repository(catalog: Catalog, model: str) -> str:
    """The hub's repository of a catalogue name, or of ``owner/name`` itself."""
    from runtime.hub import repository_of

    if not model.startswith("@"):
        if repository := repository_of(model):
            return repository
        raise Refused(f"{model} names neither a model of the catalogue nor a repository of the hub (owner/name)")
    info = catalog[model].text_of("info")
    repository = repository_of(info) if info and "huggingface.co" in info else None
    if repository is None:
        raise Refused(f"{model}'s card names no repository of the hub: pass --from FOLDER or FILE.gguf")
    return repository


def remove(model: str | None, *, stand_in: bool) -> int:
    """``roost rm``: delete a model's artifact, or the stand-ins' and their downloads; the bytes that are free again."""
    store = ArtifactStore()
    if stand_in:
        return remove_stand_ins(store)
    if model is None:
        raise Refused("name a MODEL, or --stand-in")
    freed = store.remove(artifact_key(model))
    if not freed:
        raise NoWeights(f"{model} has no weights of its own here: roost cache lists what there is")
    return freed


def show_cache(*, as_json: bool) -> None:
    """What is on disk, and how much it takes; what killed pulls left of an artifact included."""
    store = ArtifactStore()
    entries = [_entry(made.manifest, made.size) for made in store.all()]
    downloads = (path for path in store.downloads.glob("*") if path.is_file() and path.suffix != ".lock")
    entries += [{"model": "(download)", "weights": path.name, "bytes": path.stat().st_size} for path in downloads]
    unusable = store.unusable().items()
    entries += [{"model": "(damaged or outdated)", "weights": key, "bytes": size} for key, size in unusable]
    unfinished = store.unfinished().items()
    entries += [{"model": "(half-made)", "weights": key, "bytes": size} for key, size in unfinished]
    total = sum(entry["bytes"] for entry in entries)
    if as_json:
        click.echo(json.dumps({"folder": str(store.root), "bytes": total, "entries": entries}, indent=2))
        return
    rows = [
        (entry["model"], entry["weights"], entry.get("described", ""), f"{entry['bytes'] / 1e6:,.0f} MB")
        for entry in entries
    ]
    table(f"{store.root}: {total / 1e6:,.0f} MB", ("model", "weights", "precision", "size"), rows)


def _entry(manifest: Manifest, size: int) -> dict[str, Any]:
    stated = {"precision": manifest.precision, "kv": manifest.kv, "described": manifest.described}
    return {"model": manifest.answers or "(stand-in)", "weights": manifest.weights, **stated, "bytes": size}


def show_model(card: ModelCard, store: ArtifactStore, *, as_json: bool) -> None:
    """A model's facts and the weights that answer for it."""
    facts: dict[str, Any] = {
        "name": card.name,
        "id": card.id,
        "task": card.task.name,
        "description": card.description,
        "beta": card.beta,
        "runnable": card.task.name in TASKS,
        "properties": {entry.property_id: _told(entry) for entry in card.properties},
        "weights here": _weights_here(card, store),
        "needs here": needs.needs_here(card, store),
        "needs on GPUs": needs.needs_on_gpus(card, store),
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    properties = facts.pop("properties")
    facts |= {f"in {found['precision']}": needs.sentence(found) for found in facts.pop("needs here")}
    on_gpus = facts.pop("needs on GPUs")
    facts |= {f"in {found['precision']} on {found['device']}": needs.gpu_sentence(found) for found in on_gpus}
    rows = [(name, str(value)) for name, value in {**facts, **properties}.items()]
    table("", ("", ""), rows)


def _told(entry: Property) -> str:
    if isinstance(entry.value, str):
        return entry.value
    return "; ".join(f"{price.price:g} {price.currency} {price.unit}" for price in entry.value)


def task_of(catalog: Catalog, model: str) -> str:
    """What a model of the catalogue performs, as artifacts call it; text generation where it isn't known."""
    known = catalog.cards.get(model)
    return TEXT_GENERATION if known is None else TASKS.get(known.task.name, TEXT_GENERATION)


def _say_ready(url: str, catalog: Catalog, pool: Pool, store: ArtifactStore) -> None:
    """The start-up table: which weights answer for which model, on which device, and where the doors are."""
    runnable = [card for card in catalog if card.task.name in TASKS]
    own = {made.manifest.answers for made in store.all()}
    rows = [(card.name, *_answers(card, pool)) for card in runnable if card.name in own]
    others = [card for card in runnable if card.name not in own]
    for task in sorted({card.task.name for card in others}, reverse=True):
        alike = [card for card in others if card.task.name == task]
        name = alike[0].name if len(alike) == 1 else f"({len(alike)} models of {task}: roost models list)"
        rows.append((name, *_answers(alike[0], pool)))
    table("", ("model", "answered by", "device"), rows)
    click.echo(f"\nREST     {url}/client/v4/accounts/local/ai/run/MODEL")
    click.echo(f"binding  {url}/run?version=3")
    click.echo(f"pages    {url}/cdn-cgi/local/models")
    click.echo(f"Ready on {url}")


def _answers(card: ModelCard, pool: Pool) -> tuple[str, str]:
    """Which weights answer for a model, and on which device."""
    try:
        artifact = pool.artifact(card.name, TASKS[card.task.name])
    except (NoWeights, ArtifactError) as error:
        return str(error), ""
    manifest, where = artifact.manifest, expected_device(artifact, pool.device)
    stand_in = " (stand-in)" if manifest.stand_in else ""
    return f"{manifest.weights} {manifest.described}{stand_in}", where.described


def _weights_here(card: ModelCard, store: ArtifactStore) -> str:
    return _answers(card, Pool(store))[0] if card.task.name in TASKS else f"{card.task.name} doesn't run here yet"


def _refuse_open_door(options: ServeOptions) -> None:
    if not _is_loopback(options.host) and not options.token:
        raise Refused(f"--host {options.host} lets others in: give --token a secret that they must know")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def tls_folder(store: ArtifactStore) -> Path:
    """Where the authority of ``--tls`` is kept."""
    return store.root / "tls"


def run_folder(store: ArtifactStore) -> Path:
    """Where running roosts leave word of themselves."""
    return store.root / "running"
