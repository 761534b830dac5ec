"""What roost reads of a Python Worker's configuration, and what it says of mistakes in it."""

import json
from pathlib import Path

import pytest

from tests.wrangler_compat.test_project import written
from worker.bindings.service import Target
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
        'wrangler.toml:11: each of services needs a "binding" and a service',
        "wrangler.toml:19: '* * *' has 3 fields, a cron pattern has 5",
        'wrangler.toml:4: unexpected setting "compatability_date": did you mean "compatibility_date"?',
    ]


def test_a_name_and_a_day_are_what_the_platform_takes(tmp_path: Path) -> None:
    text = GOOD.replace('"w"', '"Bad Name"').replace("2026-01-01", "2026-13-01")
    with pytest.raises(ProjectError) as mistakes:
        read(tmp_path, text)
    assert str(mistakes.value).splitlines() == [
        "wrangler.toml:2: \"name\" is of lower-case letters, digits, - and _, and not 'Bad Name'",
        "wrangler.toml:4: \"compatibility_date\" is a day such as 2026-01-31, and not '2026-13-01'",
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


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        (
            '[[durable_objects.bindings]]\nname = "ROOM"\nclass_name = "Room"\nscript_name = "other"',
            "wrangler.toml:14: ROOM is one of durable_objects, which roost doesn't have: "
            "--allow-missing starts without it",
        ),
        (
            '[durable_objects]\nbindings = [{ binding = "ROOM", class_name = "Room" }]',
            'wrangler.toml:13: each of durable_objects.bindings needs a "name" and a "class_name"',
        ),
        (
            '[[durable_objects]]\nname = "ROOM"\nclass_name = "Room"',
            'wrangler.toml:13: "durable_objects" must be a table with a list of "bindings"',
        ),
    ],
)
def test_durable_objects_never_start_unnoticed(tmp_path: Path, setting: str, sentence: str) -> None:
    with pytest.raises(ProjectError) as mistakes:
        read(tmp_path, f"{GOOD}{setting}\n")
    assert str(mistakes.value) == sentence


REDIRECTED = {"name": "built", "main": "src/entry.py", "compatibility_flags": ["python_workers"]}


def test_a_build_tool_leads_to_another_configuration(tmp_path: Path) -> None:
    written(tmp_path, "wrangler.toml", GOOD)
    written(tmp_path, ".dev.vars", "SECRET=mine")
    written(tmp_path / "dist" / "src", "entry.py", "")
    written(tmp_path / "dist", "wrangler.json", json.dumps(REDIRECTED))
    written(tmp_path / ".wrangler" / "deploy", "config.json", '{"configPath": "../../dist/wrangler.json"}')
    project = open_project(tmp_path)
    read_python_project(project, allow_missing=False)
    assert (project.settings["name"], project.main) == ("built", tmp_path / "dist" / "src" / "entry.py")
    assert (project.home, project.variables()) == (tmp_path, {"SECRET": "mine"})
    assert "passed over" in project.notes[-1]
    assert open_project(tmp_path, tmp_path / "wrangler.toml").settings["name"] == "w"  # named, it counts
    with pytest.raises(ProjectError, match="choose it when you build"):
        open_project(tmp_path, environment="prod")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("{}", 'no "configPath"'),
        ('{"configPath": "none.json"}', "build the project, or delete that file"),
        ("{", "config.json"),
    ],
)
def test_a_broken_lead_is_said(tmp_path: Path, told: str, words: str) -> None:
    written(tmp_path, "wrangler.toml", GOOD)
    written(tmp_path / ".wrangler" / "deploy", "config.json", told)
    with pytest.raises(ProjectError, match=words):
        open_project(tmp_path)


def test_a_lead_in_another_folder_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "inner", "wrangler.toml", GOOD)
    written(tmp_path / ".wrangler" / "deploy", "config.json", '{"configPath": "x.json"}')
    with pytest.raises(ProjectError, match="don't stand in one folder"):
        open_project(tmp_path / "inner")


def test_variables_come_of_the_files_that_wrangler_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_PROCESS", "yes")
    written(tmp_path, "wrangler.toml", GOOD)
    for name, text in {
        ".env": "A=1\nB=1\nC=1\nD=1",
        ".env.local": "B=2\nC=2\nD=2",
        ".env.prod": "C=3\nD=3",
        ".env.prod.local": "D=4",
    }.items():
        written(tmp_path, name, text)
    assert open_project(tmp_path, environment="prod").variables() == {"A": "1", "B": "2", "C": "3", "D": "4"}
    assert open_project(tmp_path).variables() == {"A": "1", "B": "2", "C": "2", "D": "2"}
    given = [Path(".env.prod"), Path(".env.local")]
    assert open_project(tmp_path, env_files=given).variables() == {"B": "2", "C": "2", "D": "2"}
    with pytest.raises(ProjectError, match=r"there is no none\.env"):
        open_project(tmp_path, env_files=[Path("none.env")])
    monkeypatch.setenv("CLOUDFLARE_INCLUDE_PROCESS_ENV", "true")
    assert open_project(tmp_path).variables()["FROM_PROCESS"] == "yes"
    monkeypatch.setenv("CLOUDFLARE_INCLUDE_PROCESS_ENV", "false")
    monkeypatch.setenv("CLOUDFLARE_LOAD_DEV_VARS_FROM_DOT_ENV", "false")
    assert open_project(tmp_path).variables() == {}


def test_required_secrets_are_those_that_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_PROCESS", "yes")
    text = GOOD.partition("[env.prod]")[0] + '[secrets]\nrequired = ["S", "FROM_PROCESS", "ABSENT"]\n[vars]\nA = "a"\n'
    written(tmp_path, ".dev.vars", "S=s\nA=b\nOTHER=x")
    project = read(tmp_path, text)
    assert project.project.variables() == {"A": "b", "S": "s", "FROM_PROCESS": "yes"}
    assert project.warnings == ["wrangler.toml:12: no value for ABSENT: .dev.vars or .env has none"]


@pytest.mark.parametrize(
    ("assets", "words"),
    [
        ('html_handling = "some"', "assets.html_handling is one of auto-trailing-slash, "),
        ('not_found_handling = "404"', "assets.not_found_handling is one of none, "),
        ("run_worker_first = []", "true, false or up to 100 paths"),
        ('run_worker_first = "/*"', "true, false or up to 100 paths"),
        ('run_worker_first = ["api/*"]', "begins with / or !/"),
        ('run_worker_first = ["!/api/*"]', "has rules with ! alone"),
    ],
)
def test_mistakes_in_assets_are_said(tmp_path: Path, assets: str, words: str) -> None:
    text = GOOD.partition("[env.prod]")[0] + f'[assets]\ndirectory = "."\n{assets}\n'
    with pytest.raises(ProjectError, match=r"wrangler\.toml:13: ") as mistake:
        read(tmp_path, text)
    assert words in str(mistake.value)


def test_a_service_binding_names_its_entrypoint_and_props(tmp_path: Path) -> None:
    text = GOOD.partition("[env.prod]")[0]
    binding = '[[services]]\nbinding = "B"\nservice = "other"\nentrypoint = "Api"\nprops = { role = "admin" }\n'
    assert read(tmp_path, text + binding).services == {"B": Target("other", "Api", {"role": "admin"})}
    with pytest.raises(ProjectError, match="names an entrypoint that is no text"):
        read(tmp_path, text + binding.replace('"Api"', "1"))


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


def test_a_configuration_nested_without_end_is_one_sentence(tmp_path: Path) -> None:
    written(tmp_path, "wrangler.jsonc", '{"name": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(ProjectError, match="nested too deep"):
        open_project(tmp_path)
