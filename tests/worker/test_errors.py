"""Every fault has one row in one table, with the platform's code, status and words."""

import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

import catalog
import runtime.errors
import worker.errors
from catalog import CardError, InvalidInput, UnknownModel
from runtime.errors import (
    AdapterError,
    ArtifactError,
    BadParameter,
    ContextTooLong,
    DeviceUnavailable,
    EngineFailed,
    FinetuneIncomplete,
    FinetuneTaken,
    JsonCut,
    JsonUnmet,
    LoraUnsupported,
    NoGrammars,
    NoWeights,
    Overloaded,
    UnknownFinetune,
)
from worker.errors import (
    CODES,
    AiError,
    BadAuthorization,
    BadBody,
    BadRecording,
    BadToken,
    BodyTooLarge,
    ClientLeft,
    JsonModeUnsupported,
    NoCredentials,
    NoRecording,
    NotEmulated,
    OutOfNeurons,
    TimedOut,
    Unauthorized,
)

ROOT = Path(worker.errors.__file__).parents[1]
SOURCES = sorted(
    path for folder in ("catalog", "runtime", "worker", "wrangler_compat") for path in ROOT.glob(f"{folder}/**/*.py")
)
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"

ROWS: list[tuple[Exception, int, int, str]] = [
    (InvalidInput("/", "'/top_k' must be <= 50"), 5006, 400, "Bad input: Error: '/top_k' must be <= 50"),
    (
        BadParameter("/max_tokens", "'/max_tokens' must be >= 1"),
        5006,
        400,
        "Bad input: Error: '/max_tokens' must be >= 1",
    ),
    (BadBody("Expecting value"), 5006, 400, "Bad input: Error: failed to decode JSON: Expecting value"),
    (UnknownModel("@cf/a/b"), 5007, 400, "No such model: No such model @cf/a/b or task"),
    (
        LoraUnsupported("The model m does not support LoRa inference"),
        5005,
        405,
        "Ai: The model m does not support LoRa inference",
    ),
    (UnknownFinetune("Finetune f not found"), 3037, 400, "AiError: Finetune f not found"),
    (
        FinetuneIncomplete("no weights"),
        3039,
        400,
        "Ai: Finetune is missing required files (model.safetensors and config.json)",
    ),
    (BodyTooLarge(), 3006, 413, "Ai: Request is too large"),
    (ClientLeft(), 3008, 408, "Ai: Request was aborted"),
    (
        ContextTooLong(5000, 4096),
        5021,
        413,
        "Ai: The estimated number of input and maximum output tokens (5000)"
        " exceeded this model context window limit (4096).",
    ),
    (JsonCut("cut"), 5024, 400, "Ai: JSON Mode couldn't be met: cut"),
    (JsonModeUnsupported(), 5025, 400, "Ai: This model doesn't support JSON Schema."),
    (TimedOut(), 3007, 408, "Ai: Request timeout"),
    (OutOfNeurons(), 3036, 429, "Ai: You have used up your daily free allocation of 10,000 neurons."),
    (NoRecording("none"), 5911, 404, "roost: none"),
    (BadRecording("not JSON"), 5912, 500, "roost: not JSON"),
    (NoGrammars("pip install"), 5910, 501, "roost: pip install"),
    (Overloaded("full"), 3040, 429, "Ai: Capacity temporarily exceeded, please try again."),
    (JsonUnmet("both"), 5024, 400, "Ai: JSON Mode couldn't be met: both"),
    (BadToken("unknown"), 1000, 401, "Ai: Invalid API Token"),
    (BadAuthorization("Basic"), 6003, 400, "Ai: Invalid request headers"),
    (NoCredentials("none"), 9106, 400, "Ai: Missing X-Auth-Key, X-Auth-Email or Authorization headers"),
    (Unauthorized("no token"), 10000, 401, "Ai: Authentication error"),
    (NoWeights("type roost pull m"), 5901, 503, "roost: type roost pull m"),
    (NotEmulated("Translation"), 5902, 501, "roost: Translation"),
    (DeviceUnavailable("no CUDA"), 5903, 503, "roost: no CUDA"),
    (ArtifactError("damaged"), 5904, 503, "roost: damaged"),
    (EngineFailed("the model failed"), 5905, 500, "roost: the model failed"),
    (AdapterError("rank 64"), 5908, 400, "roost: rank 64"),
    (FinetuneTaken("taken"), 5909, 409, "roost: taken"),
]


@pytest.mark.parametrize(("fault", "code", "status", "said"), ROWS, ids=lambda value: type(value).__name__)
def test_a_fault_becomes_its_row(fault: Exception, code: int, status: int, said: str) -> None:
    error = AiError.of(fault, "the-request")
    assert (error.code, error.status, error.name, error.foreseen) == (code, status, "AiError", True)
    assert error.message == f"AiError: {said} (the-request)"
    assert str(error) == f"{code}: AiError: {said}"
    assert said.endswith(error.description)


def test_every_fault_that_can_reach_a_door_has_a_row() -> None:
    at_load_time = {CardError}
    raised = leaves(catalog) | leaves(runtime.errors) | leaves(worker.errors)
    assert raised - at_load_time - {AiError} == CODES.keys()


def leaves(module: ModuleType) -> set[type[Exception]]:
    """The exceptions of ``module`` that no other one there specialises."""
    found = {kind for _, kind in inspect.getmembers(module, inspect.isclass) if issubclass(kind, Exception)}
    return {kind for kind in found if not any(kind in other.__mro__[1:] for other in found)}


def test_an_error_passes_the_table_as_it_is() -> None:
    error = AiError.of(UnknownModel("m"))
    assert AiError.of(error, "another-request") is error


def test_a_fault_nobody_foresaw_is_a_500_that_says_so() -> None:
    error = AiError.of(ZeroDivisionError("by zero"))
    assert (error.status, error.foreseen) == (500, False)
    assert error.description == "an error in roost itself, see its log: by zero"


def test_a_more_special_fault_takes_the_row_of_its_kind() -> None:
    class StillInvalid(InvalidInput):
        pass

    assert AiError.of(StillInvalid("/", "no")).code == CODES[InvalidInput].internal


def test_a_message_ends_with_a_fresh_request_id_in_parentheses() -> None:
    first, second = AiError.of(UnknownModel("m")), AiError.of(UnknownModel("m"))
    assert re.fullmatch(rf"AiError: .* \({UUID}\)", first.message)
    assert first.request_id != second.request_id


def test_braces_in_a_faults_words_are_left_alone() -> None:
    assert AiError.of(UnknownModel("{fault}{0}")).description == "No such model {fault}{0} or task"
    assert AiError.of(BadBody("{0}")).description == "Error: failed to decode JSON: {0}"


@pytest.mark.parametrize("code", sorted({row.internal for row in CODES.values()} - {1000}))  # a number like others
def test_a_code_is_written_in_the_table_and_nowhere_else(code: int) -> None:
    written = [path.relative_to(ROOT).as_posix() for path in SOURCES if re.search(rf"\b{code}\b", path.read_text())]
    assert written == ["worker/errors.py"]


def test_no_error_is_made_with_a_code_of_its_own() -> None:
    made = re.compile(r"AiError\(\s*\d")
    assert [path.name for path in SOURCES if made.search(path.read_text())] == []
