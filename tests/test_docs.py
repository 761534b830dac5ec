"""What the documents promise is there: commands, make targets, routes, environment variables, versions."""

import re
import tomllib
from pathlib import Path

import click
from starlette.routing import BaseRoute, Mount, Route

from catalog import Catalog
from runtime.artifacts import ArtifactStore
from runtime.pool import Pool
from tests.make_error_page import PAGE, error_page
from worker import AI
from wrangler_compat.app import create_app
from wrangler_compat.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = README + "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))


def commands(group: click.Group, prefix: str = "roost") -> list[str]:
    names = []
    for name, command in group.commands.items():
        names += commands(command, f"{prefix} {name}") if isinstance(command, click.Group) else [f"{prefix} {name}"]
    return names


def paths(routes: list[BaseRoute], prefix: str = "") -> list[str]:
    found = []
    for route in routes:
        if isinstance(route, Mount):
            found += paths(route.routes or [], prefix + route.path)
        elif isinstance(route, Route):
            found.append(prefix + route.path)
    return found


def test_every_command_is_documented() -> None:
    assert [name for name in commands(main) if name not in DOCS] == []


def test_every_route_is_documented() -> None:
    app = create_app(AI(catalog=Catalog(), pool=Pool(ArtifactStore())))
    shown = [re.sub(r"{(\w+)(:path)?}", lambda found: f"{{{found[1]}}}", path) for path in paths(app.routes)]
    assert shown
    assert [path for path in shown if path not in DOCS] == []


def test_every_environment_variable_is_documented() -> None:
    sources = [path for package in ("runtime", "worker", "wrangler_compat") for path in (ROOT / package).rglob("*.py")]
    named = {name for path in sources for name in re.findall(r'"(ROOST_[A-Z_]+)"', path.read_text(encoding="utf-8"))}
    assert named
    assert [name for name in sorted(named) if name not in README] == []


def test_every_make_target_named_in_the_documents_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", DOCS)) <= targets


def test_links_between_documents_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
        assert [link for link in links if not (page.parent / link).exists()] == [], page.name


def test_the_page_of_errors_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == error_page()


def test_the_changelog_knows_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_python_in_the_readme_is_python() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        compile(block, "README.md", "exec")
