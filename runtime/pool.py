"""The models that are loaded: each artifact once, on first use, whatever names it answers for."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from runtime.adapter import Adapter
from runtime.adapter_cache import AdapterCache
from runtime.artifacts import TEXT_EMBEDDINGS, TEXT_GENERATION, Artifact, ArtifactStore, artifact_key
from runtime.config import EngineConfig
from runtime.device import Device, resolve_device
from runtime.encoder_engine import EncoderEngine
from runtime.encoder_session import EncoderSession
from runtime.engine import Engine, EngineStats
from runtime.errors import ArtifactError, NoWeights, Overloaded
from runtime.grammar import Grammars
from runtime.loading import load_decoder, weights_budget
from runtime.stand_in import find_stand_in, stand_in_for
from runtime.tasks import TextEmbeddings, TextGeneration

if TYPE_CHECKING:
    from runtime.finetunes import Finetune, FinetuneStore

_WATCH_EVERY = 5.0  # seconds
_MOMENT = 0.5  # seconds in which whoever got a model has sent its request
_PATIENCE = 60.0  # seconds that a load waits for busy models to make room
_LOOK_EVERY = 0.05  # seconds
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServedBy:
    """Which weights answer for ``model`` and on which device. ``stand_in``: they are not the model's own."""

    model: str
    weights: str
    precision: str
    device: str
    stand_in: bool

    def __str__(self) -> str:
        note = f", standing in for {self.model}" if self.stand_in else ""
        return f"{self.weights} ({self.precision}) on {self.device}{note}"


@dataclass(slots=True)
class LoadedModel:
    """One artifact in memory: its engine and its task. ``names``: the catalogue names it answered for.

    ``same_words``: whether a seed's text depends on nothing but its own request.
    """

    artifact: Artifact
    device: Device
    engine: Engine | EncoderEngine
    task: TextGeneration | TextEmbeddings
    loaded_at: float
    used_at: float
    same_words: bool
    names: set[str] = field(default_factory=set)
    adapters: AdapterCache = field(default_factory=AdapterCache)

    @property
    def busy(self) -> bool:
        """Whether a request runs or waits."""
        stats = self.engine.stats()
        return bool(stats.running or stats.waiting)

    @property
    def idle(self) -> bool:
        """Whether no request runs or waits, nor is about to: it wasn't handed out a moment ago."""
        return not self.busy and self.idle_seconds > _MOMENT

    @property
    def idle_seconds(self) -> float:
        """How long ago it was last asked for."""
        return time.monotonic() - self.used_at

    @property
    def generation(self) -> TextGeneration:
        """Its task, which is to generate text; :class:`ArtifactError` for weights of another kind."""
        if not isinstance(self.task, TextGeneration):
            raise ArtifactError(f"{self.artifact.manifest.weights} makes embeddings, no text")
        return self.task

    @property
    def embeddings(self) -> TextEmbeddings:
        """Its task, which is to embed texts; :class:`ArtifactError` for weights of another kind."""
        if not isinstance(self.task, TextEmbeddings):
            raise ArtifactError(f"{self.artifact.manifest.weights} writes text, and makes no embeddings")
        return self.task

    def adapter(self, finetune: Finetune, folder: Path) -> Adapter:
        """The adapter of ``finetune``, whose files are in ``folder``, for these weights; loaded if it isn't in memory.

        Raises :class:`AdapterError` where it is for weights of another shape.
        """
        from runtime.adapters import PeftAdapter  # few need it

        manifest = self.artifact.manifest
        dtype = np.float16 if manifest.half else np.float32
        named = {"key": finetune.id, "name": finetune.name}
        return self.adapters.get(
            finetune.id, lambda: PeftAdapter.read(folder).fit(manifest.shape, dtype=dtype, **named)
        )

    def served_by(self, model: str) -> ServedBy:
        """What to tell whoever asked for ``model``."""
        manifest = self.artifact.manifest
        return ServedBy(model, manifest.weights, manifest.precision, str(self.device), manifest.stand_in)

    def stats(self) -> EngineStats:
        """What the engine is doing."""
        return self.engine.stats()


class Pool:
    """Finds the artifact for a model and loads it, in a thread. Serves any event loop, one after another too.

    ``stand_in``: whether the stand-in may answer for a model without weights of its own. ``keep_alive``: seconds after
    which a model without requests is unloaded, ``None`` for never. ``memory``: bytes that loaded weights may take
    together, those that load included; past it the idle model that was used longest ago goes, and a load waits a while
    for one to become idle. A model that is alone may take more.
    """

    def __init__(
        self,
        store: ArtifactStore,
        *,
        device: str = "auto",
        stand_in: bool = True,
        config: EngineConfig | None = None,
        threads: int | None = None,
        keep_alive: float | None = None,
        memory: int | None = None,
    ) -> None:
        self._store = store
        self.device = resolve_device(device)
        self._stand_in = stand_in
        self._config = config or EngineConfig()
        self._threads = threads
        self._keep_alive = keep_alive
        self._memory = memory if memory is not None else weights_budget(self.device)
        self._lock = threading.Lock()
        self._models: dict[str, Future[LoadedModel]] = {}
        self._room = threading.Lock()
        self._taken: dict[str, int] = {}
        self._closed = False

    async def get(self, model: str, task: str = TEXT_GENERATION) -> LoadedModel:
        """The loaded model that answers for ``model``, whose ``task`` it is; :class:`NoWeights` if nothing may.

        Whoever asks while it loads waits for the same load; whoever gives up waiting stops nobody else.
        """
        loading = self._start(self.artifact(model, task))
        loaded = await asyncio.shield(asyncio.wrap_future(loading))
        loaded.names.add(model)
        loaded.used_at = time.monotonic()
        return loaded

    def artifact(self, model: str, task: str = TEXT_GENERATION) -> Artifact:
        """The artifact that answers for ``model``: its own, else the stand-in for ``task``.

        Raises :class:`NoWeights` where there is neither, :class:`ArtifactError` for weights that are for another task.
        """
        if own := self._store.find(artifact_key(model)):
            if own.task != task:
                raise ArtifactError(f"{own.manifest.weights} is here for {own.task}, and can't be used for {task}")
            return own
        if not self._stand_in:
            raise NoWeights(f"{model} has no weights here: type roost pull {model}")
        for device in (self.device, Device()) if self.device.automatic else (self.device,):
            if found := find_stand_in(self._store, device, task):
                return found
        command = "roost pull --stand-in" + (" --device cuda" if self.device.kind == "cuda" else "")
        raise NoWeights(
            f"{model} has no weights here, nor has its stand-in {stand_in_for(task).weights}: type {command}"
        )

    @property
    def finetunes(self) -> FinetuneStore:
        """The fine-tunes beside the artifacts."""
        from runtime.finetunes import FinetuneStore  # few need it

        return FinetuneStore(self._store.root)

    def loaded(self) -> list[LoadedModel]:
        """What is in memory, in the order of loading."""
        with self._lock:
            return [model.result() for model in self._models.values() if model.done() and not model.exception()]

    def unload_idle(self) -> None:
        """Unload what has had no request for ``keep_alive`` seconds, and what a pull or rm has replaced on disk.

        Whoever is busy counts from now.
        """
        now = time.monotonic()
        for loaded in self.loaded():
            if loaded.busy:
                loaded.used_at = now
            elif loaded.idle and (self._is_old(loaded) or self._is_replaced(loaded)):
                self._unload(loaded)

    async def watch(self) -> None:
        """Unload idle models for ever; for a server's background."""
        while True:
            await asyncio.sleep(_WATCH_EVERY)
            await asyncio.to_thread(self.unload_idle)

    def close(self) -> None:
        """End every engine, those that are still loading included."""
        with self._lock:
            models, self._models, self._closed = list(self._models.values()), {}, True
        for model in models:
            if model.exception() is None:  # waits for a load to end
                model.result().engine.close()

    def _is_old(self, loaded: LoadedModel) -> bool:
        return loaded.idle_seconds > (self._keep_alive or math.inf)

    def _is_replaced(self, loaded: LoadedModel) -> bool:
        """Whether other weights, or none, now lie where these were loaded from."""
        try:
            there = self._store.find(loaded.artifact.folder.name)
        except ArtifactError:
            return False  # damaged: what is in memory is better
        return there is None or there.identity != loaded.artifact.identity

    def _start(self, artifact: Artifact) -> Future[LoadedModel]:
        """The load of ``artifact``, begun if nobody has. One that failed is tried anew."""
        key = artifact.identity
        with self._lock:
            model = self._models.get(key)
            if model is None or _is_of_no_use(model):
                self._closed = False
                model = self._models[key] = Future()
                threading.Thread(target=self._fulfil, args=(model, artifact), name="roost-load", daemon=True).start()
            return model

    def _unload(self, loaded: LoadedModel) -> None:
        key = loaded.artifact.identity
        with self._lock:
            model = self._models.get(key)
            if model is None or not model.done() or model.exception() or model.result() is not loaded:
                return  # somebody else was faster
            del self._models[key]
        _log.info("unloading %s", loaded.artifact.manifest.weights)
        loaded.engine.close()
        self._taken.pop(key, None)

    def _make_room(self, artifact: Artifact) -> None:
        """Unload idle models, those used longest ago first, until ``artifact`` fits; a lone one always may load.

        Raises :class:`Overloaded` where the others stay busy.
        """
        key, until = artifact.identity, time.monotonic() + _PATIENCE
        with self._room:  # one at a time, so that two loads don't count on the same room
            self._taken.pop(key, None)
            while self._taken and sum(list(self._taken.values())) + artifact.size > self._memory:
                idle = [loaded for loaded in self.loaded() if loaded.idle]
                if idle:
                    self._unload(min(idle, key=lambda loaded: loaded.used_at))
                elif self._closed or time.monotonic() > until:
                    raise Overloaded("the models that are loaded are busy, and there is no memory for another")
                else:
                    time.sleep(_LOOK_EVERY)
            self._taken[key] = artifact.size

    def _fulfil(self, model: Future[LoadedModel], artifact: Artifact) -> None:
        try:
            self.unload_idle()  # nobody may be watching
            self._make_room(artifact)
            model.set_result(self._load(artifact))
        except BaseException as error:  # whoever waits must hear of it
            self._taken.pop(artifact.identity, None)
            model.set_exception(error)

    def _load(self, artifact: Artifact) -> LoadedModel:
        manifest = artifact.manifest
        if artifact.task == TEXT_EMBEDDINGS:
            return self._load_encoder(artifact)
        tokenizer = artifact.tokenizer()
        assert manifest.vocab is not None  # a decoder has one
        ready = load_decoder(artifact, self.device, self._config, self._threads, self._unload_from_gpu)
        engine = Engine(ready.session, ready.config)
        stop_tokens = frozenset(manifest.stop_tokens)
        grammars = Grammars(tokenizer.to_json, manifest.vocab, stop_tokens)
        task = TextGeneration(engine, tokenizer, stop_tokens, grammars)
        now = time.monotonic()
        return LoadedModel(artifact, ready.device, engine, task, now, now, ready.same_words)

    def _load_encoder(self, artifact: Artifact) -> LoadedModel:
        """Encoders run on the CPU, whatever the device of decoders: they are small."""
        facts = artifact.manifest.embedding
        if facts is None:
            weights, model = artifact.manifest.weights, artifact.manifest.answers
            raise ArtifactError(f"{weights} was exported by an older roost: type roost rm {model}, and pull it again")
        tokenizer = artifact.plain_tokenizer()
        engine = EncoderEngine(EncoderSession(artifact.folder / facts.graph, facts, threads=self._threads))
        task = TextEmbeddings(engine, tokenizer, facts, stand_in=artifact.manifest.stand_in)
        return LoadedModel(artifact, Device(), engine, task, time.time(), time.monotonic(), same_words=True)

    def _unload_from_gpu(self) -> bool:
        """Unload the idle model on a GPU that was used longest ago; whether there was one."""
        idle = [loaded for loaded in self.loaded() if loaded.idle and loaded.device.kind == "cuda"]
        if idle:
            self._unload(min(idle, key=lambda loaded: loaded.used_at))
        return bool(idle)


def _is_of_no_use(model: Future[LoadedModel]) -> bool:
    """Whether a load failed, or its engine broke since."""
    return model.done() and (model.exception() is not None or not model.result().engine.open)
