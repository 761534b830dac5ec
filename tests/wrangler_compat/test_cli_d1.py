"""``roost d1``: migrations and SQL, in the files of the project, with one line for a mistake."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from wrangler_compat.cli import main

CONFIG = """
name = "shop"
main = "src/index.js"

[[d1_databases]]
binding = "DB"
database_name = "shop-db"
database_id = "the-id"

[[env.staging.d1_databases]]
binding = "DB"
database_name = "staging-db"
database_id = "other-id"
migrations_dir = "other/folder"
migrations_table = "applied"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "wrangler.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def roost(*args: str) -> Result:
    return CliRunner().invoke(main, ["d1", *args])


def rows(database: str, sql: str, *more: str) -> list[list[object]]:
    ended = roost("execute", database, "--json", "--command", sql, *more)
    assert ended.exit_code == 0, ended.output
    return [list(row.values()) for row in json.loads(ended.stdout)[-1]["results"]]


def test_migrations_are_made_listed_and_applied_once(folder: Path) -> None:
    assert roost("migrations", "create", "shop-db", "add users / ../x").stdout.endswith("0001_add_users_x.sql\n")
    first = folder / "migrations" / "0001_add_users_x.sql"
    assert first.read_text() == "-- Migration number: 0001\n"
    first.write_text("CREATE TABLE users (name);\nINSERT INTO users VALUES ('a;b'); -- the first\n")
    (folder / "migrations" / "0010_more.sql").write_text("INSERT INTO users VALUES ('c')")
    assert roost("migrations", "create", "DB", "last").stdout.endswith("0011_last.sql\n")
    assert roost("migrations", "list", "DB").stdout.split() == [first.name, "0010_more.sql", "0011_last.sql"]
    assert roost("migrations", "apply", "shop-db").stdout.split() == [first.name, "0010_more.sql", "0011_last.sql"]
    assert roost("migrations", "apply", "shop-db").stdout == ""
    assert rows("DB", "SELECT name FROM users") == [["a;b"], ["c"]]
    assert rows("DB", "SELECT id, name FROM d1_migrations")[:2] == [[1, first.name], [2, "0010_more.sql"]]


def test_a_migration_that_fails_is_rolled_back_and_ends_the_others(folder: Path) -> None:
    migrations = folder / "other" / "folder"
    migrations.mkdir(parents=True)
    (migrations / "1_good.sql").write_text("CREATE TABLE t (a);")
    (migrations / "2_bad.sql").write_text("INSERT INTO t VALUES (1); INSERT INTO nope VALUES (1);")
    (migrations / "3_never.sql").write_text("CREATE TABLE never (a);")
    ended = roost("migrations", "apply", "staging-db", "-e", "staging")
    assert ended.exit_code == 1
    assert ended.stdout.split() == ["1_good.sql"]
    assert ended.stderr == "Error: 2_bad.sql: no such table: nope: SQLITE_ERROR\n"
    assert rows("DB", "SELECT * FROM t", "-e", "staging") == []
    assert rows("DB", "SELECT name FROM applied", "-e", "staging") == [["1_good.sql"]]
    assert roost("migrations", "list", "DB", "-e", "staging").stdout.split() == ["2_bad.sql", "3_never.sql"]


def test_sql_comes_from_the_command_line_or_from_a_file(folder: Path) -> None:
    (folder / "seed.sql").write_text("CREATE TABLE t (a, b);\nINSERT INTO t VALUES (1, x'00ff'), (2, NULL);\n")
    assert roost("execute", "DB", "--file", "seed.sql").stdout == "0 rows changed\n2 rows changed\n"
    assert rows("DB", "SELECT 1; SELECT * FROM t") == [[1, [0, 255]], [2, None]]
    shown = roost("execute", "DB", "--command", "SELECT a, b FROM t").stdout
    assert [line.split() for line in shown.splitlines()] == [["a", "b"], ["1", "[0,", "255]"], ["2"]]
    assert roost("execute", "DB", "--command", "DELETE FROM t; SELECT nope").exit_code == 1
    assert len(rows("DB", "SELECT * FROM t")) == 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["execute", "DB"], "give either --command or --file"),
        (["execute", "DB", "--command", "SELEC 1"], 'near "SELEC": syntax error at offset 0: SQLITE_ERROR'),
        (["execute", "DB", "--file", "none.sql"], "none.sql"),
        (["execute", "other", "--command", "SELECT 1"], "wrangler.toml has no D1 database other: it has shop-db"),
        (["migrations", "list", "DB"], "roost d1 migrations create DB NAME"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, args: list[str], words: str) -> None:
    ended = roost(*args)
    assert ended.exit_code != 0
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_file_that_is_no_database_is_named(folder: Path) -> None:
    assert roost("execute", "DB", "--command", "SELECT 1").exit_code == 0
    (file,) = (folder / ".wrangler/state/v3/d1/miniflare-D1DatabaseObject").glob("*.sqlite")
    file.write_bytes(b"no database " * 100)
    (folder / "migrations").mkdir()
    for args in (["execute", "DB", "--command", "SELECT 1"], ["migrations", "apply", "DB"]):
        ended = roost(*args)
        assert ended.exit_code == 1
        assert ended.stderr.endswith("sqlite: file is not a database\n")
