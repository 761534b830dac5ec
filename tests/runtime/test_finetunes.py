"""Fine-tunes on disk: whole or not there, found by name and id, never changed."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from runtime import finetunes
from runtime.adapters import FILES
from runtime.errors import AdapterError, BadParameter, FinetuneIncomplete, FinetuneTaken, UnknownFinetune
from runtime.finetunes import Finetune, FinetuneStore
from tests.runtime.reference.tiny_adapters import write_tiny_adapter

MODEL = "@cf/a/b"


@pytest.fixture
def store(tmp_path: Path) -> FinetuneStore:
    return FinetuneStore(tmp_path / "cache")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    write_tiny_adapter(tmp_path / "adapter", "llama", "qv")
    return tmp_path / "adapter"


def names(store: FinetuneStore) -> list[str]:
    return [one.name for one in store.all()]


def upload(store: FinetuneStore, wanted: str, name: str, source: Path) -> Finetune:
    incoming = store.incoming() / "coming"
    shutil.copyfile(source, incoming)
    try:
        return store.add_file(wanted, name, incoming)
    finally:
        incoming.unlink(missing_ok=True)


def test_a_folder_becomes_a_fine_tune(store: FinetuneStore, adapter: Path) -> None:
    made = store.create_from(MODEL, "mine", adapter)
    assert store.all() == [made]
    assert store.find("mine") == store.find(made.id) == made
    assert (made.model, made.description, made.public) == (MODEL, "", False)
    assert all((store.folder(made) / name).read_bytes() == (adapter / name).read_bytes() for name in FILES)
    assert store.remove("mine") > sum((adapter / name).stat().st_size for name in FILES)
    with pytest.raises(UnknownFinetune, match="Finetune mine not found"):
        store.find("mine")


def test_what_is_not_served_leaves_nothing_behind(store: FinetuneStore, adapter: Path, tmp_path: Path) -> None:
    (adapter / FILES[1]).write_bytes(b"\0" * 9)
    with pytest.raises(AdapterError):
        store.create_from(MODEL, "mine", adapter)
    with pytest.raises(FinetuneIncomplete):
        store.create_from(MODEL, "mine", tmp_path / "nowhere")
    assert store.all() == []
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.name != ".lock"] == []


def test_files_come_one_by_one(store: FinetuneStore, adapter: Path) -> None:
    made = store.create(MODEL, "mine", description="words", public=True)
    with pytest.raises(FinetuneIncomplete):
        store.folder(made)
    upload(store, "mine", FILES[0], adapter / FILES[0])
    assert not store.whole(made)
    changed = upload(store, made.id, FILES[1], adapter / FILES[1])
    assert store.folder(made) == store.folder(changed)
    assert changed.modified_at > made.modified_at == made.created_at
    assert store.find("mine") == changed
    with pytest.raises(FinetuneTaken, match=r"has its adapter_model\.safetensors already"):
        upload(store, "mine", FILES[1], adapter / FILES[1])


def test_a_bad_file_is_not_kept(store: FinetuneStore, adapter: Path) -> None:
    made = store.create(MODEL, "mine")
    with pytest.raises(BadParameter, match="must be one of"):
        upload(store, "mine", "../../escape", adapter / FILES[0])
    with pytest.raises(UnknownFinetune):
        upload(store, "other", FILES[0], adapter / FILES[0])
    with pytest.raises(AdapterError, match="isn't what PEFT writes"):
        upload(store, "mine", FILES[0], adapter / FILES[1])
    upload(store, "mine", FILES[1], adapter / FILES[1])
    (adapter / FILES[0]).write_text('{"peft_type": "LORA", "r": 4}')
    with pytest.raises(AdapterError, match="none of the rank 4"):
        upload(store, "mine", FILES[0], adapter / FILES[0])
    assert not store.whole(made)


def test_names_are_taken_once(store: FinetuneStore, adapter: Path) -> None:
    first = store.create(MODEL, "mine")
    for name in ("mine", first.id):
        with pytest.raises(FinetuneTaken, match="already"):
            store.create_from(MODEL, name, adapter)
    for name in ("", " a", "a\n", "x" * (finetunes.LONGEST_NAME + 1), "cf-public-mine"):
        with pytest.raises(BadParameter, match="'/name' must"):
            store.create(MODEL, name)
    with pytest.raises(BadParameter, match="'/description' must"):
        store.create(MODEL, "other", description="x" * (finetunes.LONGEST_DESCRIPTION + 1))
    assert names(store) == ["mine"]


def test_many_at_once_make_as_many_as_are_allowed(store: FinetuneStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetunes, "MOST", 5)
    refused: list[FinetuneTaken] = []

    def make(place: int) -> None:
        try:
            store.create(MODEL, f"number {place % 7}")
        except FinetuneTaken as fault:
            refused.append(fault)

    threads = [threading.Thread(target=make, args=(place,)) for place in range(14)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(store)) == len(set(names(store))) == 5
    assert len(refused) == 9


def test_strangers_in_the_folder_are_passed_over(store: FinetuneStore, adapter: Path) -> None:
    made = store.create_from(MODEL, "mine", adapter)
    copy = store.folder(made).with_name("copy")
    shutil.copytree(store.folder(made), copy)  # its record bears another's id
    (store.folder(made).with_name("x")).mkdir()
    (store.folder(made).with_name("x") / "finetune.json").write_text("{")
    assert store.all() == [made]
