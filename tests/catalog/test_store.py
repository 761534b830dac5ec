"""The catalogue finds cards by name, searches them, and survives whatever lies in a folder."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from catalog import Catalog, ModelCard, Query, UnknownModel
from tests.catalog.conftest import SEED_NAME

TEXT, EMBEDDINGS = "Text Generation", "Text Embeddings"


def write(folder: Path, name: str, task: str = TEXT, description: str = "Talks.", **more: Any) -> Path:
    source = 1 if name.startswith("@cf/") else 2
    card = {"id": name, "source": source, "name": name, "description": description, **more}
    path = folder / f"{name.rsplit('/', 1)[-1]}.json"
    path.write_text(json.dumps({**card, "task": {"id": task, "name": task}}))
    return path


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """The seed's card and three more."""
    write(tmp_path, "@cf/meta/llama-3-8b", description="A llama.")
    write(tmp_path, "@cf/baai/bge-small", EMBEDDINGS, "Vectors, made by BAAI.")
    write(tmp_path, "@hf/meta/llama-2", properties=[{"property_id": "beta", "value": "true"}])
    return of(tmp_path)


def of(folder: Path) -> Catalog:
    """The cards of ``folder`` and the seed's, without what else is shipped."""
    loaded = Catalog.load(folder)
    return Catalog({card.name: card for card in loaded if card.name == SEED_NAME or folder in own(loaded, card)})


def own(loaded: Catalog, card: ModelCard) -> tuple[Path, ...]:
    return tuple(loaded.files[card.name].parents)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (Query(), ["@cf/baai/bge-small", "@cf/meta/llama-3-8b", "@hf/meta/llama-2", SEED_NAME]),
        (Query(search="LLAMA"), ["@cf/meta/llama-3-8b", "@hf/meta/llama-2"]),
        (Query(search="baai."), ["@cf/baai/bge-small"]),
        (Query(search="no such words"), []),
        (Query(task=EMBEDDINGS), ["@cf/baai/bge-small"]),
        (Query(task="text embeddings"), []),
        (Query(author="Meta"), ["@cf/meta/llama-3-8b", "@hf/meta/llama-2"]),
        (Query(author="met"), []),
        (Query(source=2), ["@hf/meta/llama-2", SEED_NAME]),
        (Query(source=3), []),
        (Query(hide_experimental=True), ["@cf/baai/bge-small", "@cf/meta/llama-3-8b"]),
        (Query(search="llama", author="meta", source=2, task=TEXT), ["@hf/meta/llama-2"]),
        (Query(author="meta", hide_experimental=True, source=2), []),
    ],
)
def test_every_filter_that_is_given_narrows_the_search(catalog: Catalog, query: Query, found: list[str]) -> None:
    page = catalog.search(query)
    assert [card.name for card in page.cards] == found
    assert page.total == len(found)


@pytest.mark.parametrize("per_page", [1, 2, 3, 4, 50])
def test_the_pages_of_a_search_are_all_it_finds_once(catalog: Catalog, per_page: int) -> None:
    everything = catalog.search(Query()).cards
    seen: list[ModelCard] = []
    for number in range(1, len(everything) + 2):
        page = catalog.search(Query(page=number, per_page=per_page))
        assert len(page.cards) <= per_page
        assert (page.page, page.per_page, page.total) == (number, per_page, len(everything))
        seen += page.cards
    assert tuple(seen) == everything


@pytest.mark.parametrize("page", [2, 3, 10**20])
def test_a_page_past_the_end_is_empty(catalog: Catalog, page: int) -> None:
    assert catalog.search(Query(page=page)).cards == ()


def test_a_model_is_found_by_its_name(catalog: Catalog) -> None:
    assert catalog["@hf/meta/llama-2"].author == "meta"
    assert len(catalog) == len(list(catalog)) == 4


def test_an_unknown_name_suggests_the_closest() -> None:
    with pytest.raises(UnknownModel) as caught:
        Catalog.load()["@hf/nexusflow/starling-7b"]
    assert str(caught.value) == "No such model @hf/nexusflow/starling-7b or task"
    assert caught.value.suggestions[0] == SEED_NAME


@pytest.mark.parametrize("name", ["", "x", "\0"])
def test_a_name_like_no_other_suggests_nothing(name: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        Catalog.load()[name]
    assert caught.value.suggestions == ()


def test_the_seeds_card_wins_over_a_folders_copy_of_its_name(tmp_path: Path, seed: ModelCard) -> None:
    write(tmp_path, SEED_NAME, description="not the shipped one")
    assert Catalog.load(tmp_path)[SEED_NAME] == seed


def test_a_users_card_wins_over_a_shipped_one_of_its_name(tmp_path: Path) -> None:
    write(tmp_path, "@cf/meta/llama-3.1-8b-instruct", description="mine")
    assert Catalog.load(tmp_path)["@cf/meta/llama-3.1-8b-instruct"].description == "mine"
    assert len(Catalog.load(tmp_path)) == len(Catalog.load())


def test_of_several_cards_in_a_folder_the_newest_wins(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dates = {"w": None, "x": "2025-01-01", "y": "2026-07-01", "z": "2026-02-01"}
    for name, date in dates.items():
        write(tmp_path, "@cf/a/b", created_at=date, description=name).rename(tmp_path / f"{name}.json")
    with caplog.at_level(logging.WARNING):
        assert Catalog.load(tmp_path)["@cf/a/b"].description == "y"
    assert caplog.messages == ["passed over 3 cards whose models have others: roost models doctor names them"]


def test_a_later_folder_wins_over_an_earlier_one(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        write(folder, "@cf/a/b", description=folder.name)
    assert Catalog.load(*folders)["@cf/a/b"].description == "two"


@pytest.mark.parametrize(
    ("name", "content"),
    [("broken.md", b"no card"), ("binary.json", b"\xff\xfe\0"), ("empty.yaml", b""), ("README.md", b"# My cards")],
)
def test_a_file_that_is_no_card_is_passed_over_with_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, content: bytes
) -> None:
    write(tmp_path, "@cf/a/good")
    (tmp_path / name).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        catalog = Catalog.load(tmp_path)
    assert {card.name for card in catalog} - Catalog.load().cards.keys() == {"@cf/a/good"}
    (line,) = caplog.messages
    assert line.startswith(f"passed over {name}: ")
    assert "\n" not in line


def test_a_folder_within_a_folder_of_cards_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "old.md").mkdir()
    write(tmp_path / "old.md", "@cf/a/good")
    assert "@cf/a/good" in Catalog.load(tmp_path).cards


def test_a_link_to_nowhere_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "@cf/a/good")
    (tmp_path / "gone.md").symlink_to(tmp_path / "nowhere")
    assert "@cf/a/good" in Catalog.load(tmp_path).cards


def test_other_files_in_a_folder_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "notes.txt").write_text("not a card")
    assert len(Catalog.load(tmp_path)) == len(Catalog.load())
    assert caplog.messages == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match=r"no folder of cards at .*nowhere"):
        Catalog.load(tmp_path / "nowhere")
