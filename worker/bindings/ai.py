"""``AI.run``: the function that every door calls. Start reading here.

card → validated inputs → loaded weights → task → events → result or stream.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import weakref
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from catalog import Catalog, ModelCard, Page
from catalog.shape import shape_of
from runtime.artifacts import TEXT_EMBEDDINGS, ArtifactStore
from runtime.config import EngineConfig, TokenLimits
from runtime.pool import LoadedModel, Pool
from runtime.tasks import TASKS
from runtime.tasks.generation_inputs import read_inputs
from runtime.tasks.text_generation import Event
from worker import embeddings
from worker.answer import AIStream, Answer
from worker.call import Call, Interposer, through
from worker.errors import AiError, NotEmulated, new_request_id
from worker.features import emulated, plain_messages, with_features
from worker.ledger import Ledger
from worker.lora import adapter_of, chosen_finetune, wanted_lora
from worker.recent import Recent
from worker.remote import RemoteAI
from worker.search import read_query

if TYPE_CHECKING:
    from runtime.finetunes import FinetuneStore

_log = logging.getLogger(__name__)


class AI:
    """The AI binding. In process by default; with ``url``, a running roost answers instead.

    ``catalog`` and ``pool`` default to the shipped cards and the weights in the user's cache. ``stand_in``: whether
    the stand-in may answer for models without weights of their own. ``device``: auto, cpu, cuda or cuda:N.
    ``deterministic``: a seed gives the same text whatever else runs; without it repetitive text comes faster.
    ``json_everywhere``: JSON Schemas are taken for models whose cards have no JSON mode, too. ``interposers``: who
    stands before the engine, such as a recorder.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        token: str | None = None,
        catalog: Catalog | None = None,
        pool: Pool | None = None,
        stand_in: bool = True,
        device: str = "auto",
        deterministic: bool = True,
        json_everywhere: bool = False,
        interposers: Sequence[Interposer] = (),
    ) -> None:
        self.last_request_id: str | None = None
        self._remote = RemoteAI(url, token) if url else None
        self._catalog = catalog
        self._pool = pool
        self._stand_in = stand_in
        self._device = device
        self._deterministic = deterministic
        self._json_everywhere = json_everywhere
        self._answer = through(tuple(interposers), self._generate_here)
        self.ledger = Ledger()
        self.recent = Recent()

    async def run(
        self, model: str, inputs: Mapping[str, Any], options: Mapping[str, Any] | None = None
    ) -> dict[str, Any] | AIStream:
        """Run ``model`` on ``inputs`` (the card's input schema). A dict, or an :class:`AIStream` if they ask for it.

        Raises :class:`AiError` with the platform's code, before the first byte of a stream. Cancelling the call,
        or leaving the stream, stops the computation.
        """
        answer = await self.generate(model, inputs, options)
        return AIStream(answer) if answer.streaming else await answer.result()

    async def generate(
        self,
        model: str,
        inputs: object,
        options: Mapping[str, Any] | None = None,
        extras: Mapping[str, Any] | None = None,
    ) -> Answer:
        """The answer as typed events; returns once the first is there, so that faults before it are raised.

        ``inputs`` come from outside and may be anything; the card says what they should be. ``extras`` are inputs that
        a door promises whatever the card says, in process alone.
        """
        self.last_request_id = request_id = new_request_id()
        model = str(model)
        call = Call(model, inputs, extras or {}, request_id)
        entry = self.recent.begin(call)
        try:
            if self._remote is not None:
                answer = await self._remote.generate(model, inputs, options)
                self.last_request_id = answer.request_id
                return answer.watched_by(entry)
            answer = (await self._answer(call)).watched_by(entry)
            card = self.catalog.cards.get(model)
            return answer if card is None else answer.shaped(shape_of(card, inputs), model, inputs)
        except Exception as fault:
            error = AiError.of(fault, request_id)
            entry.fail(error.code)
            self.last_request_id = error.request_id
            if not error.foreseen:
                _log.exception("request %s failed", request_id)
            raise error from fault
        finally:
            if entry.first is None:  # cancelled before there was anything to hand out
                entry.leave()

    async def _generate_here(self, call: Call) -> Answer:
        card = self.catalog[call.model]
        inputs = plain_messages(call.inputs)
        checked = card.validate_inputs(inputs)
        refuse_what_cannot_run(card)
        if TASKS[card.task.name] == TEXT_EMBEDDINGS:
            return await self._embed_here(call, card, checked)
        wanted = with_features(card, inputs, checked, call.extras, json_everywhere=self._json_everywhere)
        request, lora = read_inputs(emulated(card, wanted, call.inputs)), wanted_lora(card, inputs)
        finetune = None if lora is None else await asyncio.to_thread(chosen_finetune, card, lora, self.finetunes)
        loaded = await self.pool.get(call.model)
        adapter = None if finetune is None else await adapter_of(card, finetune, self.finetunes, loaded)
        limits = TokenLimits(card.limits.max_input_length, card.limits.total)
        events = await _started(loaded.generation.generate(request, limits, adapter, call.progress))
        return Answer(
            events,
            streaming=checked.get("stream") is True,
            request_id=call.request_id,
            served_by=loaded.served_by(call.model),
            meter=partial(self.ledger.note, card),
        )

    async def _embed_here(self, call: Call, card: ModelCard, checked: Mapping[str, Any]) -> Answer:
        request = embeddings.read(card, checked)
        loaded = await self.pool.get(call.model, TEXT_EMBEDDINGS)
        return Answer(
            await _started(embeddings.embed(card, request, loaded.embeddings, call.progress)),
            streaming=False,
            request_id=call.request_id,
            served_by=loaded.served_by(call.model),
            meter=partial(self.ledger.note, card),
        )

    async def models(self, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The catalogue's entries, filtered like the API's models/search (``search``, ``task``, ``author``, …)."""
        try:
            if self._remote is not None:
                return await self._remote.models(params or {})
        except Exception as fault:
            raise AiError.of(fault) from fault
        return [describe(card) for card in self.search(params or {}).cards]

    def search(self, params: Mapping[str, Any]) -> Page:
        """The page of this process's catalogue that ``params`` ask for; :class:`AiError` if they mean nothing."""
        try:
            return self.catalog.search(read_query(params))
        except Exception as fault:
            raise AiError.of(fault) from fault

    @property
    def catalog(self) -> Catalog:
        """The cards, read on first use."""
        if self._catalog is None:
            self._catalog = Catalog.load()
        return self._catalog

    @property
    def pool(self) -> Pool:
        """The loaded models, none at first."""
        if self._pool is None:
            config = EngineConfig(deterministic=self._deterministic)
            self._pool = Pool(ArtifactStore(), device=self._device, stand_in=self._stand_in, config=config)
            _close_at_exit(self._pool)
        return self._pool

    @property
    def finetunes(self) -> FinetuneStore:
        """The fine-tunes that requests may name as their ``lora``."""
        return self.pool.finetunes

    def loaded(self) -> list[LoadedModel]:
        """What this process has in memory."""
        return self._pool.loaded() if self._pool is not None else []

    async def aclose(self) -> None:
        """End the engines, or the connection to a running roost."""
        if self._remote is not None:
            await self._remote.aclose()
        if self._pool is not None:
            await asyncio.to_thread(self._pool.close)


def describe(card: ModelCard) -> dict[str, Any]:
    """A card as models/search lists it."""
    shown = card.model_dump(mode="json", exclude={"input_schema", "output_schema", "deprecated"}, exclude_none=True)
    return {**shown, "properties": [entry.model_dump(mode="json") for entry in card.properties]}


def refuse_what_cannot_run(card: ModelCard) -> None:
    """Raise :class:`NotEmulated` for a model whose task roost can't run."""
    if card.task.name not in TASKS:
        raise NotEmulated(f"{card.name} performs {card.task.name}, which roost can't run yet")


async def _started(events: AsyncGenerator[Event]) -> AsyncGenerator[Event]:
    """``events`` with the first one already computed."""
    first = await anext(events)
    return _chained(first, events)


async def _chained(first: Event, rest: AsyncGenerator[Event]) -> AsyncGenerator[Event]:
    try:
        yield first
        async for event in rest:
            yield event
    finally:
        await rest.aclose()


def _close_at_exit(pool: Pool) -> None:
    """A daemon thread inside ONNX Runtime must not outlive the interpreter."""
    reference = weakref.ref(pool)

    def close() -> None:
        if (kept := reference()) is not None:
            kept.close()

    atexit.register(close)
