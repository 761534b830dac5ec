"""Which fine-tune a request asks for, whether its card lets it, and the adapter that answers for it.

A card that has the ``lora`` property takes adapters, and so does one whose input schema has the field: the catalogue
has cards with one and without the other. Any other refuses it. The model's own weights have the
last word: not every graph takes adapters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from catalog import Catalog, InvalidInput, ModelCard
from catalog.wording import type_name
from runtime.adapter import Adapter
from runtime.errors import BadParameter, LoraUnsupported, UnknownFinetune

if TYPE_CHECKING:
    from runtime.finetunes import Finetune, FinetuneStore
    from runtime.pool import LoadedModel


def wanted_lora(card: ModelCard, inputs: object) -> str | None:
    """The name or id that ``inputs``, as they came, have under ``lora``; ``None`` if they ask for none.

    Raises :class:`LoraUnsupported` where the card takes none, :class:`InvalidInput` for what is no text.
    """
    wanted = inputs.get("lora") if isinstance(inputs, Mapping) else None
    if wanted in (None, ""):
        return None
    if not card.takes_lora:
        raise unsupported(card)
    if not isinstance(wanted, str):
        raise InvalidInput("/lora", f"Type mismatch of '/lora', '{type_name(wanted)}' not in 'string'")
    return wanted


def create_finetune(catalog: Catalog, store: FinetuneStore, asked: Mapping[str, Any]) -> Finetune:
    """A new fine-tune without files, as the API creates them: of a ``model`` and a ``name``.

    Raises :class:`BadParameter`, :class:`UnknownModel`, :class:`LoraUnsupported`, :class:`FinetuneTaken`.
    """
    for name in ("model", "name", "description"):
        if asked.get(name) is None and name != "description":
            raise BadParameter("/", f"required properties at '/' are '{name}'")
        if not isinstance(asked.get(name), str | None):
            raise BadParameter(f"/{name}", f"Type mismatch of '/{name}', '{type_name(asked[name])}' not in 'string'")
    card = tunable(catalog, asked["model"])
    return store.create(
        card.name, asked["name"], description=asked.get("description") or "", public=asked.get("public") is True
    )


def tunable(catalog: Catalog, model: str) -> ModelCard:
    """The card of a model that takes adapters; :class:`LoraUnsupported` if it takes none."""
    card = catalog[model]
    if not card.takes_lora:
        raise unsupported(card)
    return card


def chosen_finetune(card: ModelCard, wanted: str, store: FinetuneStore) -> Finetune:
    """The fine-tune ``wanted``; :class:`UnknownFinetune` if there is none, or only one for another model."""
    finetune = store.find(wanted)
    if finetune.model != card.name:
        raise UnknownFinetune(f"Finetune {wanted} not found for {card.name}: it was created for {finetune.model}")
    store.folder(finetune)
    return finetune


async def adapter_of(card: ModelCard, finetune: Finetune, store: FinetuneStore, loaded: LoadedModel) -> Adapter:
    """The adapter of ``finetune``, in memory, for the weights that answer.

    Raises :class:`LoraUnsupported` where they take none, :class:`AdapterError` where they are of another shape.
    """

    def load() -> Adapter:
        if not loaded.engine.takes_adapters:
            raise unsupported(card)
        return loaded.adapter(finetune, store.folder(finetune))

    return await asyncio.to_thread(load)


def unsupported(card: ModelCard) -> LoraUnsupported:
    """The refusal in the platform's words."""
    return LoraUnsupported(f"The model {card.name} does not support LoRa inference")
