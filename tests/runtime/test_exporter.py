"""``--exporter optimum`` before optimum is there: what the machine or the network lacks, and what is left behind.

What it exports is compared with PyTorch by `make test-export` (reference/check_exports.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime import exporter
from runtime.artifacts import ArtifactStore
from runtime.errors import ArtifactError
from runtime.exporter import export_needs, exported
from runtime.pull_model import Tell, Wanted, pull_from
from tests.models.checkpoint import write_checkpoint

MODEL = "@hf/nexusflow/starling-lm-7b-beta"
OPTIMUM = Wanted(MODEL, exporter="optimum")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "Tiny")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "cache")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pip that finds nothing anywhere."""
    (tmp_path / "empty").mkdir()
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path / "empty"), "CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)


def left_in(store: ArtifactStore) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_offline_is_one_sentence_and_leaves_nothing(store: ArtifactStore, checkpoint: Path, offline: None) -> None:
    with pytest.raises(
        ArtifactError, match=r"optimum can't be installed \(.*optimum==2\.1\.0.*\).*through pip"
    ) as caught:
        pull_from(store, OPTIMUM, checkpoint)
    assert "\n" not in str(caught.value)
    assert left_in(store) == []


def test_ctrl_c_while_installing_leaves_nothing(store: ArtifactStore, checkpoint: Path, offline: None) -> None:
    def interrupt(what: str, _done: int, _total: int) -> None:
        if what.startswith("installing"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull_from(store, OPTIMUM, checkpoint, Tell(interrupt))
    assert left_in(store) == []


def test_too_little_memory_is_told_with_the_numbers(
    store: ArtifactStore, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "memory_share", lambda _share: 400_000_000)
    with pytest.raises(ArtifactError, match=r"takes some 0\.5 GB of memory, .* GB of disk and 1 min; .* has 0\.4 GB"):
        pull_from(store, OPTIMUM, checkpoint)
    assert left_in(store) == []


def test_needs_grow_with_the_parameters(checkpoint: Path) -> None:
    fp32, fp16 = export_needs(checkpoint, "fp32"), export_needs(checkpoint, "fp16")
    assert fp32.parameters == fp16.parameters == 94_784
    assert fp32.memory > 9 * fp32.parameters
    assert fp32.disk > fp16.disk > 4 * fp16.parameters


def test_pickled_weights_are_never_exported(store: ArtifactStore, checkpoint: Path) -> None:
    for path in [*checkpoint.glob("*.safetensors"), checkpoint / "model.safetensors.index.json"]:
        path.unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ArtifactError, match=r"no safetensors to export \(pickled weights are never loaded\)"):
        pull_from(store, OPTIMUM, checkpoint)


@pytest.mark.parametrize("precision", ["int4", "int8"])
def test_optimum_rounds_to_no_integers(store: ArtifactStore, checkpoint: Path, precision: str) -> None:
    with pytest.raises(ArtifactError, match=f"optimum writes fp32 or fp16, not {precision}"):
        pull_from(store, Wanted(MODEL, precision, exporter="optimum"), checkpoint)  # type: ignore[arg-type]


def test_a_damaged_shard_is_one_sentence(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "model-00002-of-00002.safetensors").write_bytes(b"\0" * 64)
    with (
        pytest.raises(ArtifactError, match=r"model-00002-of-00002\.safetensors is not a readable safetensors file"),
        exported(tmp_path, checkpoint, "text-generation", "fp32", lambda *_now: None),
    ):
        pytest.fail("there is nothing to export")
