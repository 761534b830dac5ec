"""``roost finetune``: LoRA adapters under a name, with the arguments of ``wrangler ai finetune``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from catalog import Catalog
from runtime.artifacts import ArtifactStore
from runtime.errors import AdapterError, ArtifactError, NoWeights
from runtime.pool import Pool
from worker.lora import tunable
from wrangler_compat.one_line import one_line_errors
from wrangler_compat.terminal import table


@click.group()
def finetune() -> None:
    """LoRA adapters that requests name as their `lora`."""


@finetune.command()
@click.argument("model")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@one_line_errors
def create(model: str, name: str, folder: Path) -> None:
    """\b
    roost finetune create @hf/nexusflow/starling-lm-7b-beta my-style ./adapter
    roost run @hf/nexusflow/starling-lm-7b-beta "Hello" -o lora=my-style

    Keep the adapter in FOLDER (PEFT's adapter_config.json and adapter_model.safetensors) as NAME, for MODEL.
    """
    from runtime.finetunes import FinetuneStore  # few need it

    card = tunable(Catalog.load(), model)
    made = FinetuneStore().create_from(card.name, name, folder)
    click.echo(f"{made.name} for {made.model}, {made.id}")
    if doubt := _misfit(card.name, folder):
        click.echo(f"but as things are, requests that name it are refused: {doubt}", err=True)


@finetune.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@one_line_errors
def list_finetunes(as_json: bool) -> None:
    """List the fine-tunes."""
    from runtime.finetunes import FinetuneStore  # few need it

    store = FinetuneStore()
    found = store.all()
    if as_json:
        click.echo(json.dumps([one.model_dump() for one in found], indent=2))
        return
    rows = [(one.id, one.name, one.model, one.description or _state(store.whole(one))) for one in found]
    table("", ("finetune_id", "name", "model", "description"), rows)


@finetune.command()
@click.argument("name")
@one_line_errors
def rm(name: str) -> None:
    """Delete the fine-tune with this NAME or id."""
    from runtime.finetunes import FinetuneStore  # few need it

    click.echo(f"{FinetuneStore().remove(name) / 1e6:,.1f} MB freed")


def _state(whole: bool) -> str:
    return "" if whole else "(incomplete)"


def _misfit(model: str, folder: Path) -> str | None:
    """Why the weights that answer for ``model`` now can't take the adapter in ``folder``."""
    from runtime.adapters import PeftAdapter  # few need it

    try:
        shape = Pool(ArtifactStore()).artifact(model).manifest.shape
        PeftAdapter.read(folder).fit(shape, key="", name="")
    except (AdapterError, ArtifactError, NoWeights) as error:
        return str(error)
    return None
