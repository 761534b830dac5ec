from pathlib import Path

import pytest

from catalog import Catalog, ModelCard

SEED_NAME = "@hf/nexusflow/starling-lm-7b-beta"
_CARDS = Path(__file__).parents[3] / "shared" / "cards"


@pytest.fixture(scope="session")
def seed() -> ModelCard:
    return Catalog.load()[SEED_NAME]


@pytest.fixture(scope="session")
def published() -> list[Path]:
    """Every card file of the collection that lies beside this repository on some machines."""
    if not _CARDS.is_dir():
        pytest.skip("the collection of published cards (../shared/cards) isn't on this machine")
    return sorted(path for path in _CARDS.rglob("*") if path.suffix in (".md", ".yaml", ".json"))
