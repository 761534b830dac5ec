"""Disks that are full, read-only or damaged, and pulls that meet: a sentence, nothing half-made, nothing lost.

More of it: tests/runtime/test_artifacts.py and test_pull_model.py, where a pull is broken off in process.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from runtime.artifacts import DECODER, MANIFEST, TOKENIZER, ArtifactStore, artifact_key
from runtime.stand_in import GGUF_NAME
from tests.models.checkpoint import write_checkpoint
from tests.stress.arithmetic_model import write_arithmetic_artifact
from tests.stress.asking import REST, Heard, ask, greedy, right
from tests.stress.serving import ROOST, serving
from tests.worker.asking import MODEL

pytestmark = pytest.mark.stress

GGUF = ArtifactStore().downloads / GGUF_NAME
needs_mounts = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounting is root's")


def pull(cache: Path, *arguments: str, before: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    command, environment = [ROOST, "pull", *arguments], {**os.environ, "ROOST_CACHE": str(cache)}
    return subprocess.run(
        command, env=environment, preexec_fn=before, capture_output=True, text=True, timeout=100, check=False
    )


def left_in(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock")


def told(ended: subprocess.CompletedProcess[str]) -> str:
    """The one sentence in which it failed."""
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    (sentence,) = [line for line in ended.stderr.splitlines() if line.startswith("Error: ")]
    return sentence


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a tmpfs with given options, and takes it away at the end."""
    folder = tmp_path / "mounted"
    folder.mkdir()

    def mount(options: str) -> Path:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("this machine lets nobody mount")
        return folder

    yield mount
    subprocess.run(["umount", folder], capture_output=True, check=False)


@pytest.mark.weights
@needs_mounts
def test_a_disk_that_is_full_while_the_stand_in_is_fetched_is_one_sentence(mounted: Callable[[str], Path]) -> None:
    cache = mounted("size=40m")
    assert "No space left on device" in told(pull(cache, "--stand-in", "--from", str(GGUF)))
    assert left_in(cache) == []


@needs_mounts
def test_a_disk_that_is_full_while_an_artifact_is_built_is_one_sentence(
    mounted: Callable[[str], Path], tmp_path: Path
) -> None:
    """There are bytes, so that it begins, but places for six files and folders alone."""
    cache, checkpoint = mounted("size=200m,nr_inodes=6"), write_checkpoint(tmp_path / "checkpoint")
    assert "No space left on device" in told(pull(cache, MODEL, "--from", str(checkpoint)))
    assert left_in(cache) == []


@pytest.mark.weights
def test_a_file_that_may_grow_no_further_is_one_sentence_and_leaves_what_was_there(tmp_path: Path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20 << 20, 20 << 20))

    store = write_arithmetic_artifact(tmp_path / "cache")
    before = store.find(artifact_key(MODEL))
    assert "File too large" in told(pull(store.root, "--stand-in", "--from", str(GGUF), before=limited))
    assert store.find(artifact_key(MODEL)) == before
    assert store.unfinished() == {}


@needs_mounts
def test_a_cache_that_cannot_be_written_serves_what_it_has_and_takes_no_more(
    mounted: Callable[[str], Path], tmp_path: Path
) -> None:
    cache, checkpoint = mounted("size=50m"), write_checkpoint(tmp_path / "checkpoint")
    write_arithmetic_artifact(cache)
    (cache / "stderr.txt").touch()
    subprocess.run(["mount", "-o", "remount,ro", cache], check=True)
    told_of = told(pull(cache, MODEL, "--from", str(checkpoint)))
    assert f"the cache {cache} can't be written (Read-only file system): set ROOST_CACHE" in told_of
    with serving(cache, "--context", "512", log=tmp_path / "stderr.txt") as roost:
        assert heard(roost.url).text == right("hello", 30)
        assert "roost ps and roost env won't find this roost" in roost.log.read_text()


def heard(url: str) -> Heard:
    async def asked() -> Heard:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            return await ask(client, REST, greedy("hello", 30))

    return asyncio.run(asked())


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def corrupt(path: Path) -> None:
    path.write_bytes(b"\xff" * path.stat().st_size)


@pytest.mark.parametrize("damage", [cut, corrupt, Path.unlink])
@pytest.mark.parametrize("name", [DECODER, TOKENIZER, MANIFEST])
def test_a_damaged_artifact_is_a_sentence_until_it_is_whole_again(
    whole: Path, name: str, damage: Callable[[Path], None], damaged_roost: str
) -> None:
    path = ArtifactStore(whole).root / "artifacts" / artifact_key(MODEL) / name
    content = path.read_bytes()
    damage(path)
    try:
        refused = heard(damaged_roost)
        assert (refused.status, refused.code) in {(503, 5904), (503, 5901)}
    finally:
        path.write_bytes(content)
    assert heard(damaged_roost).text == right("hello", 30)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("damaged")
    write_arithmetic_artifact(cache)
    return cache


@pytest.fixture
def damaged_roost(whole: Path) -> Iterator[str]:
    with serving(whole, "--context", "512", "--no-stand-in") as roost:
        yield roost.url


def test_two_pulls_of_one_model_build_it_once(tmp_path: Path) -> None:
    checkpoint, cache = write_checkpoint(tmp_path / "checkpoint"), tmp_path / "cache"
    command = [ROOST, "pull", MODEL, "--from", str(checkpoint)]
    environment = {**os.environ, "ROOST_CACHE": str(cache)}
    pulls = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [one.communicate(timeout=100) for one in pulls]
    assert [one.returncode for one in pulls] == [0, 0, 0]
    assert len({output for output, _ in said}) == 1
    assert sum("is here already" in errors for _, errors in said) == 2, said
    assert ArtifactStore(cache).unfinished() == {}
