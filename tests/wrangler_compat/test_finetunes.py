"""Fine-tunes through the REST door, Cloudflare's SDK, ``wrangler ai finetune`` and ``roost finetune``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from cloudflare import APIStatusError, Cloudflare

from catalog import Catalog
from runtime import adapters
from runtime.adapters import FILES
from runtime.artifacts import ArtifactStore
from runtime.pool import Pool
from tests.runtime.reference.smollm2_adapter import KIND, write_smollm2_adapter
from tests.runtime.reference.tiny_adapters import Kind, write_tiny_adapter
from tests.worker.asking import GREEDY, MODEL
from tests.worker.live import live, ps
from tests.wrangler_compat.conftest import ACCOUNT
from tests.wrangler_compat.node_tools import MODULES, NEW_NODE, NODE, QUIET, needs_new_node, needs_node
from worker import AI
from wrangler_compat.app import create_app
from wrangler_compat.cli import main

CARDS = ArtifactStore().root / "artifacts"
WITHOUT = "@cf/a/without"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with the usual weights and no fine-tunes."""
    root = tmp_path / "cache"
    root.mkdir()
    (root / "artifacts").symlink_to(CARDS)
    monkeypatch.setenv("ROOST_CACHE", str(root))
    return root


@pytest.fixture
def url(root: Path) -> Iterator[str]:
    """A running roost that knows a model without LoRAs, too."""
    seed = Catalog.load()[MODEL]
    schema = {"type": "object", "properties": {"prompt": {"type": "string"}}}
    plain = seed.model_copy(update={"name": WITHOUT, "input_schema": schema})
    catalog = Catalog({card.name: card for card in (seed, plain)})
    with live(create_app(AI(catalog=catalog, pool=Pool(ArtifactStore(root))))) as address:
        yield address


@pytest.fixture
def rest(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{url}/client/v4/accounts/{ACCOUNT}/ai", timeout=60) as client:
        yield client


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    write_smollm2_adapter(tmp_path / "adapter", kind=Kind(KIND.targets, {"r": 8, "lora_alpha": 1.0}))
    return tmp_path / "adapter"


def create(rest: httpx.Client, **stated: Any) -> httpx.Response:
    return rest.post("/finetunes/", json={"model": MODEL, "name": "mine", **stated})


def upload(rest: httpx.Client, wanted: str, name: str, content: bytes) -> httpx.Response:
    return rest.post(f"/finetunes/{wanted}/finetune-assets/", data={"file_name": name}, files={"file": content})


def code(answer: httpx.Response) -> tuple[int, int]:
    body = answer.json()
    assert (body["success"], body["result"]) == (False, {})
    return answer.status_code, body["errors"][0]["code"]


@pytest.mark.weights
def test_the_documented_calls_lead_from_files_to_an_answer(rest: httpx.Client, url: str, adapter: Path) -> None:
    plain = rest.post(f"/run/{MODEL}", json=GREEDY).json()["result"]["response"]
    made = create(rest, description="words", public=True).json()["result"]
    assert {name: made[name] for name in ("model", "name", "description", "public")} == {
        "model": MODEL,
        "name": "mine",
        "description": "words",
        "public": True,
    }
    assert code(rest.post(f"/run/{MODEL}", json={**GREEDY, "lora": "mine"})) == (400, 3039)
    for wanted, name in (("mine", FILES[1]), (made["id"], FILES[0])):
        answer = upload(rest, wanted, name, (adapter / name).read_bytes())
        assert answer.json() == {"result": {"success": True}, "success": True, "errors": [], "messages": []}
    for path in ("/finetunes", "/finetunes/", "/finetunes/public"):
        (listed,) = rest.get(path).json()["result"]
        assert listed["id"] == made["id"]
    answer = rest.post(f"/run/{MODEL}", json={**GREEDY, "lora": "mine"})
    assert answer.json()["result"]["response"] != plain
    assert rest.post(f"/run/{MODEL}", json={**GREEDY, "lora": made["id"]}).json() == answer.json() | {
        "result": rest.post(f"/run/{MODEL}", json={**GREEDY, "lora": "mine"}).json()["result"]
    }
    assert ps(url)["adapters"] == [{"name": "mine", "rank": 8, "megabytes": 16.2}]


def test_what_is_wrong_is_said_in_the_envelope(
    rest: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_adapter(tmp_path / "tiny", "llama", "qv")
    config = (tmp_path / "tiny" / FILES[0]).read_bytes()
    assert create(rest).is_success
    assert code(create(rest)) == (409, 5909)
    assert code(create(rest, model="nope")) == (400, 5007)
    assert code(create(rest, model=WITHOUT, name="other")) == (405, 5005)
    assert code(create(rest, name=None)) == (400, 5006)
    assert code(create(rest, name=7)) == (400, 5006)
    assert code(create(rest, name="other", description=7)) == (400, 5006)
    assert code(rest.post("/finetunes", content=b"{")) == (400, 5006)
    assert code(upload(rest, "nope", FILES[0], config)) == (400, 3037)
    assert code(upload(rest, "mine", "../x", config)) == (400, 5006)
    assert code(upload(rest, "mine", FILES[0], b"{}")) == (400, 5908)
    assert code(rest.post("/finetunes/mine/finetune-assets", content=b"x")) == (400, 5006)
    assert code(rest.post("/finetunes/mine/finetune-assets", files={"other": b"x"})) == (400, 5006)
    assert upload(rest, "mine", FILES[0], config).is_success
    assert code(upload(rest, "mine", FILES[0], config)) == (409, 5909)
    assert code(rest.post(f"/run/{WITHOUT}", json={"prompt": "a", "lora": "mine"})) == (405, 5005)
    monkeypatch.setattr(adapters, "MAX_BYTES", 0)
    assert code(upload(rest, "mine", FILES[1], b"\0" * (2 << 20))) == (413, 3006)


def test_nothing_of_a_refused_upload_stays(rest: httpx.Client, root: Path) -> None:
    create(rest)
    upload(rest, "mine", FILES[1], b"\0" * 100)
    upload(rest, "mine", "nothing", b"\0" * 100)
    assert list((root / "finetunes" / ".incoming").iterdir()) == []


def test_the_sdk_creates_uploads_and_lists(url: str, adapter: Path) -> None:
    with Cloudflare(base_url=f"{url}/client/v4", api_token="any", max_retries=0) as client:
        tunes = client.ai.finetunes
        made = tunes.create(account_id=ACCOUNT, model=MODEL, name="mine")
        assert made is not None
        for name in FILES:
            with (adapter / name).open("rb") as file:
                tunes.assets.create(made.id, account_id=ACCOUNT, file=file, file_name=name)
        listed: Any = tunes.list(account_id=ACCOUNT)
        assert [one.name for one in listed] == ["mine"]
        assert list(tunes.public.list(account_id=ACCOUNT)) == []
        with pytest.raises(APIStatusError) as refusal:
            tunes.create(account_id=ACCOUNT, model=MODEL, name="mine")
        assert refusal.value.status_code == 409


@needs_node
@pytest.mark.parametrize(
    ("package", "node"),
    [("wrangler", NODE), ("wrangler-3", NODE), pytest.param("wrangler-newest", NEW_NODE, marks=needs_new_node)],
)
def test_wranglers_own_commands_create_and_list(
    url: str, adapter: Path, tmp_path: Path, package: str, node: str | Path
) -> None:
    variables = {
        "CLOUDFLARE_API_BASE_URL": f"{url}/client/v4",
        "CLOUDFLARE_ACCOUNT_ID": ACCOUNT,
        "CLOUDFLARE_API_TOKEN": "any",
    }

    def wrangler(*arguments: str) -> str:
        command = [str(node), str(MODULES / package / "bin/wrangler.js"), "ai", "finetune", *arguments]
        ran = subprocess.run(
            command, cwd=tmp_path, env={**QUIET, **variables}, capture_output=True, text=True, timeout=100, check=False
        )
        return ran.stdout + ran.stderr

    assert 'finetune "mine" is ready to use' in wrangler("create", MODEL, "mine", str(adapter))
    assert "mine" in wrangler("list")
    assert "there is a fine-tune named mine already" in wrangler("create", MODEL, "mine", str(adapter))


def roost(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="roost")


@pytest.mark.weights
def test_the_command_creates_lists_runs_and_deletes(root: Path, adapter: Path, tmp_path: Path) -> None:
    made = roost("finetune", "create", MODEL, "mine", str(adapter))
    assert (made.exit_code, made.stderr) == (0, "")
    assert made.stdout.startswith(f"mine for {MODEL}, ")
    (listed,) = json.loads(roost("finetune", "list", "--json").stdout)
    assert (listed["name"], listed["model"]) == ("mine", MODEL)
    assert listed["id"] in roost("finetune", "list").stdout
    few = ("-o", "max_tokens=8", "-o", "temperature=0", "--offline")
    adapted = roost("run", MODEL, "Hello", "-o", "lora=mine", *few)
    assert adapted.exit_code == 0, adapted.stderr
    assert adapted.stdout != roost("run", MODEL, "Hello", *few).stdout
    assert "MB freed" in roost("finetune", "rm", "mine").stdout
    for arguments, words in (
        (("finetune", "rm", "mine"), "Error: Finetune mine not found"),
        (("finetune", "create", "nope", "mine", str(adapter)), "No such model nope or task"),
        (("finetune", "create", MODEL, "mine", str(tmp_path / "nowhere")), "nowhere has no adapter_config.json"),
        (("run", MODEL, "Hello", "-o", "lora=mine", *few), "3037: AiError: AiError: Finetune mine not found"),
    ):
        refused = roost(*arguments)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert words in refused.stderr


@pytest.mark.weights
def test_the_command_tells_of_weights_that_do_not_fit(root: Path, tmp_path: Path) -> None:
    write_tiny_adapter(tmp_path / "tiny", "llama", "qv")
    made = roost("finetune", "create", MODEL, "tiny", str(tmp_path / "tiny"))
    assert made.exit_code == 0
    assert "requests that name it are refused: the adapter is for" in made.stderr
    assert "of [64, 64], the weights that answer have [576, 576]" in made.stderr
