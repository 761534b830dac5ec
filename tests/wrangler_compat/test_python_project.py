"""What roost reads of a Python Worker's configuration, and what it says of mistakes in it."""

from pathlib import Path

import pytest

from tests.wrangler_compat.test_project import written
from wrangler_compat.project import ProjectError, open_project
from wrangler_compat.python_project import PythonProject, is_python, read_python_project

GOOD = """
name = "w"
main = "src/entry.py"
compatibility_date = "2026-01-01"
compatibility_flags = ["python_workers"]
[[kv_namespaces]]
binding = "KV"
id = "abc"
[triggers]
crons = ["*/5 * * * *"]
[env.prod]
vars = { A = "x" }
"""


def read(folder: Path, text: str, name: str = "wrangler.toml", **options: str | None) -> PythonProject:
    written(folder, name, text)
    written(folder / "src", "entry.py", "")
    return read_python_project(open_project(folder, **options), allow_missing=False)  # type: ignore[arg-type]


def test_a_project_is_read(tmp_path: Path) -> None:
    project = read(tmp_path, GOOD)
    assert is_python(project.project)
    assert (project.name, project.main) == ("w", tmp_path / "src" / "entry.py")
    assert (project.date, project.flags, project.kv) == ("2026-01-01", ["python_workers"], {"KV": "abc"})
    assert [cron.pattern for cron in project.crons] == ["*/5 * * * *"]
    assert project.warnings == []


def test_an_environment_says_what_it_does_not_inherit(tmp_path: Path) -> None:
    project = read(tmp_path, GOOD, environment="prod")
    assert (project.name, project.kv, project.project.variables()) == ("w-prod", {}, {"A": "x"})
    assert project.warnings == [
        'wrangler.toml:6: "kv_namespaces" stands at the top level, but env.prod does not inherit it'
    ]


BAD_TOML = """
name = "w"
main = "src/none.py"
compatability_date = "2026-01-01"
compatibility_flags = "python_workers"

[[hyperdrive]]
binding = "DB"
id = "x"

[[services]]
binding = "B"

[[queues.producers]]
binding = "Q"
queue = "q"

[triggers]
crons = ["* * *"]
"""
BAD_JSON = """{
  // a comment
  "name": "w", "main": "src/none.py",
  "compatibility_flags": ["python_workers"],
  "r2_buckets": [
    {"binding": "BUCKET", "bucket_name": "../x", "bucket_nam": "y"}
  ],
  "vars": [],
}"""


def test_all_mistakes_are_shown_together_with_their_lines(tmp_path: Path) -> None:
    with pytest.raises(ProjectError) as mistakes:
        read(tmp_path, BAD_TOML)
    assert str(mistakes.value).splitlines() == [
        "wrangler.toml:5: \"compatibility_flags\" must be a list, but it is 'python_workers'",
        "wrangler.toml:3: there is no src/none.py",
        "wrangler.toml:8: DB is one of hyperdrive, which roost doesn't have: --allow-missing starts without it",
        "wrangler.toml:15: Q is one of queues, which roost doesn't have: --allow-missing starts without it",
        'wrangler.toml:11: each of services needs a "binding" and a service',
        "wrangler.toml:19: '* * *' has 3 fields, a cron pattern has 5",
        'wrangler.toml:4: unexpected setting "compatability_date": did you mean "compatibility_date"?',
    ]


def test_so_are_those_of_json(tmp_path: Path) -> None:
    with pytest.raises(ProjectError) as mistakes:
        read(tmp_path, BAD_JSON, "wrangler.jsonc")
    assert str(mistakes.value).splitlines() == [
        'wrangler.jsonc:8: "vars" must be a table, but it is []',
        "wrangler.jsonc:3: there is no src/none.py",
        'wrangler.jsonc:6: "../x" is no name of a bucket: letters, digits, - and _, 63 at most',
        'wrangler.jsonc:6: unexpected setting "r2_buckets.bucket_nam": did you mean "bucket_name"?',
    ]


def test_a_missing_binding_can_be_allowed(tmp_path: Path) -> None:
    written(tmp_path / "src", "entry.py", "")
    written(tmp_path, "wrangler.toml", GOOD + '[[hyperdrive]]\nbinding = "DB"\n')
    assert read_python_project(open_project(tmp_path), allow_missing=True).missing == {"DB": "hyperdrive"}


def test_databases_and_buckets_are_known_by_what_they_lead_to(tmp_path: Path) -> None:
    more = """
[[d1_databases]]
binding = "A"
database_name = "a"
database_id = "a-id"
migrations_dir = "sql"
[[d1_databases]]
binding = "B"
database_id = "b-id"
preview_database_id = "b-preview"
[[d1_databases]]
binding = "C"
[[r2_buckets]]
binding = "IMAGES"
bucket_name = "my-images"
jurisdiction = "eu"
[[r2_buckets]]
binding = "D"
"""
    project = read(tmp_path, GOOD + more)
    assert project.d1 == {"A": "a-id", "B": "b-preview", "C": "C"}
    assert project.r2 == {"IMAGES": "my-images", "D": "D"}
    assert project.warnings == []
