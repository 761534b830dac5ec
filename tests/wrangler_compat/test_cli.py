"""The ``roost`` command: examples first, answers on stdout, and one line on stderr for a mistake."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from catalog import Catalog
from tests.worker.asking import GREEDY, MODEL
from worker.server import bind
from wrangler_compat.cli import main

FEW = ["-o", "max_tokens=8", "-o", "temperature=0"]

MISTAKES: list[tuple[list[str], str]] = [
    (["nope"], "No such command 'nope'"),
    (["run", MODEL], "PROMPT"),
    (["run", MODEL, "hello", "--nope"], "--nope"),
    (["run", "@hf/nexusflow/starling", "hello"], f"did you mean {MODEL}?"),
    (["run", "nope", "hello"], "5007: AiError: No such model: No such model nope or task"),
    (["run", MODEL, ""], "Length of '/prompt' must be >= 1"),
    (["run", MODEL, "hello", "-o", "temperature=9"], "'/temperature' must be <= 5"),
    (["run", MODEL, "hello", "-o", "temperature=NaN"], "'/temperature'"),
    (["run", MODEL, "hello", "-o", "max_tokens=few"], "'/max_tokens', 'string' not in 'integer'"),
    (["run", MODEL, "hello", "-o", "max_tokens"], "-o max_tokens: write it as key=value"),
    (["run", MODEL, "hello", "--no-stand-in"], f"type roost pull {MODEL}"),
    (["run", MODEL, "hello", "--device", "abacus"], "'abacus' is no device: use auto, cpu, cuda or cuda:N"),
    (["run", MODEL, "hello", "--url", "http://127.0.0.1:9"], "no roost answers at http://127.0.0.1:9"),
    (["run", MODEL, "hello", "--url", "localhost:8790"], "no roost answers at localhost:8790"),
    (["models", "show", "@hf/nexusflow/starling"], f"did you mean {MODEL}?"),
    (["models", "schema", "nope"], "No such model nope or task"),
    (["models", "list", "--source", "x"], "--source"),
    (["serve", "--host", "0.0.0.0"], "--host 0.0.0.0 lets others in: give --token"),
    (["serve", "--host", "::"], "--host :: lets others in: give --token"),
    (["serve", "--port", "-1"], "port"),
    (["serve", "--port", "65536"], "port"),
    (["serve", "--port", "x"], "--port"),
    (["serve", "--device", "abacus"], "'abacus' is no device"),
    (["serve", "--device", "cuda:77"], "cuda:77"),
    (["serve", "--rows", "0"], "--rows"),
    (["serve", "--context", "1"], "--context"),
    (["serve", "--cards", "nowhere"], "no folder of cards at nowhere"),
    (["pull"], "name a MODEL, or --stand-in"),
    (["pull", "nope", "--from", "x.gguf"], "No such model nope or task"),
    (["pull", MODEL, "--from", "x.gguf"], "there is no file x.gguf"),
    (["pull", "--stand-in", "--from", "x.whl"], "there is no file x.whl"),
]


def roost(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), prog_name="roost")


def said(*arguments: str) -> str:
    result = roost(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_shows_examples_first(flag: str) -> None:
    lines = said(flag).splitlines()
    assert lines[0] == "Usage: roost [OPTIONS] COMMAND [ARGS]..."
    assert lines[2].startswith(f"  roost run {MODEL} ")
    assert lines.index("Commands:") > 2


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_says_what_it_does(command: str) -> None:
    assert f"Usage: roost {command} " in said(command, "--help")


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES, ids=[" ".join(asked) for asked, _ in MISTAKES])
def test_a_mistake_is_one_line_that_says_what_to_do(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = roost(*arguments)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (1, 2)
    assert result.stdout == ""
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_one_line() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        result = roost("serve", "--port", str(port), "--offline")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: port {port} on 127.0.0.1 can't be had: ")
    assert len(result.stderr.splitlines()) == 1


def test_ps_without_a_roost_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_CACHE", str(tmp_path))
    assert roost("ps").stderr == "Error: no roost is running here: type roost serve\n"


def test_models_are_listed_as_json() -> None:
    listed = json.loads(said("models", "list", "--json"))
    assert [model["name"] for model in listed] == sorted(Catalog.load().cards)
    (model,) = (model for model in listed if model["name"] == MODEL)
    assert (model["task"]["name"], model["runnable"], model["deprecated"]) == ("Text Generation", True, False)
    assert {model["runnable"] for model in listed if model["task"]["name"] == "Text-to-Image"} == {False}


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["list", "--search", "STARLING"], 1),
        (["list", "--task", "Translation"], 2),
        (["list", "--author", "nexusflow", "--source", "2"], 1),
        (["list", "--author", "nexusflow", "--source", "1"], 0),
        (["list", "--author", "nexusflow", "--hide-experimental"], 0),
        (["search", "starling"], 1),
        (["search", "no such words"], 0),
    ],
)
def test_a_filter_narrows_the_list(arguments: list[str], found: int) -> None:
    assert len(json.loads(said("models", *arguments, "--json"))) == found


@pytest.mark.parametrize("columns", [60, 80, 140, 200])
def test_a_list_fits_the_terminal_and_breaks_no_name_in_two(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = said("models", "list").splitlines()
    assert max(map(len, lines)) <= columns
    names = {line.split()[0] for line in lines if line.startswith("@")}
    assert names == Catalog.load().cards.keys()
    assert MODEL in said("models", "show", MODEL)


def test_a_model_that_cannot_run_here_says_so_at_once() -> None:
    result = roost("run", "@cf/openai/whisper", "hello")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: 5902: AiError: roost: @cf/openai/whisper performs Automatic Speech Recognition, "
        "which roost can't run yet\n"
    )


def test_the_doctor_finds_nothing_wrong_in_what_is_shipped() -> None:
    findings = json.loads(said("models", "doctor", "--json"))
    assert {finding["model"] for finding in findings} == Catalog.load().cards.keys()
    assert [finding for finding in findings if finding["problems"] or finding["makes_way_for"]] == []


@pytest.mark.parametrize("columns", [60, 100])
def test_the_doctor_names_what_is_wrong_with_cards(
    columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    (tmp_path / "broken.md").write_text("no card")
    card = Catalog.load()[MODEL].model_dump(mode="json")
    (tmp_path / "seed.json").write_text(json.dumps({**card, "schema": {"input": {"required": 1}}}))
    result = roost("models", "doctor", "--cards", str(tmp_path))
    assert result.exit_code == 1
    assert max(map(len, result.stdout.splitlines())) <= columns
    told = " ".join(result.stdout.split())
    assert "2 cards of 1 models" in told
    for part in ("broken.md", "no front matter", "seed.json", "no output schema", "duplicate", "roost ships wins"):
        assert part in told


def test_a_model_is_shown_with_what_its_card_says() -> None:
    shown = json.loads(said("models", "show", MODEL, "--json"))
    assert (shown["name"], shown["task"], shown["beta"]) == (MODEL, "Text Generation", True)
    assert shown["properties"]["max_total_tokens"] == "4096"


@pytest.mark.weights
def test_a_model_is_shown_with_who_answers_for_it() -> None:
    assert "SmolLM2-135M-Instruct Q4_1 (stand-in)" in said("models", "show", MODEL)


def test_a_models_schema_is_the_cards() -> None:
    card = Catalog.load()[MODEL]
    assert json.loads(said("models", "schema", MODEL)) == {"input": card.input_schema, "output": card.output_schema}


@pytest.mark.weights
def test_an_answer_is_the_same_streamed_whole_and_as_json() -> None:
    whole = said("run", MODEL, GREEDY["prompt"], *FEW, "--no-stream")
    streamed = roost("run", MODEL, GREEDY["prompt"], *FEW)
    result = json.loads(said("run", MODEL, GREEDY["prompt"], *FEW, "--json"))
    assert whole == streamed.stdout == f"{result['response']}\n"
    assert streamed.stderr.startswith("SmolLM2-135M-Instruct (Q4_1) on ")
    assert result["usage"]["completion_tokens"] == 8


@pytest.mark.weights
def test_json_is_json_whatever_the_options_say() -> None:
    assert json.loads(said("run", MODEL, "hello", *FEW, "-o", "stream=true", "--json"))["response"]


@pytest.mark.weights
def test_too_long_an_answer_is_refused_in_one_line() -> None:
    result = roost("run", MODEL, "hello", "-o", "max_tokens=5000")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "Error: 5021: AiError: Ai: The estimated number of input and maximum output tokens ("
    )
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.weights
def test_a_running_roost_answers_where_it_is_named(url: str) -> None:
    here = said("run", MODEL, GREEDY["prompt"], *FEW)
    assert said("run", MODEL, GREEDY["prompt"], *FEW, "--url", url) == here


@pytest.mark.weights
@pytest.mark.parametrize("form", [[], ["--json"], ["--no-stream"]])
def test_the_stand_in_is_named_in_every_form_of_answer(form: list[str]) -> None:
    result = roost("run", MODEL, "hello", *FEW, *form)
    assert "standing in for" in result.stderr
    assert "standing in for" not in result.stdout
