"""The habits that a reviewer would otherwise have to ask for: small files, small functions, nothing left behind."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
LONGEST_FUNCTION, LONGEST_FILE = 45, 400
PACKAGES = ("catalog", "runtime", "worker", "wrangler_compat", "examples", "tests")


def sources() -> Iterator[tuple[Path, str]]:
    for package in PACKAGES:
        ours = (path for path in (ROOT / package).rglob("*.py") if "node_modules" not in path.parts)
        for path in sorted(ours):
            yield path.relative_to(ROOT), path.read_text(encoding="utf-8")


def test_functions_fit_a_screen() -> None:
    long = [
        f"{path}:{node.lineno} {node.name}"
        for path, text in sources()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno >= LONGEST_FUNCTION
    ]
    assert long == []


def test_files_hold_one_noun() -> None:
    assert [str(path) for path, text in sources() if text.count("\n") > LONGEST_FILE] == []


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name]


def test_the_top_level_is_what_the_user_fixed() -> None:
    folders = {path.relative_to(ROOT).parts[0] for path in tracked() if len(path.relative_to(ROOT).parts) > 1}
    assert folders <= {"catalog", "runtime", "worker", "wrangler_compat", "tests", "docs", "examples", ".ci"}


def test_no_registry_host_is_named() -> None:
    hosts = ("pypi" + ".org", "pythonhosted" + ".org", "registry.npmjs" + ".org", "deb.debian" + ".org")
    texts = {path: path.read_bytes() for path in tracked() if path.is_file()}
    assert [str(path) for path, data in texts.items() if any(host.encode() in data for host in hosts)] == []
