"""What roost reads of a wrangler project, and what it prints for the tools of one."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from wrangler_compat.authority import trusted_file
from wrangler_compat.cli import main
from wrangler_compat.jsonc import parse_jsonc
from wrangler_compat.project import ProjectError, open_project
from wrangler_compat.tool_env import PRELOAD, as_json, export_lines, tool_environment
from wrangler_compat.workerd import config_for, one_module
from wrangler_compat.wrangler import find_wrangler, wrangler_dev

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=8
)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_json_is_jsonc(value: Any) -> None:
    text = json.dumps(value, indent=1)
    assert parse_jsonc(text) == value
    assert parse_jsonc(f"// a\n/* b */{text}// c") == value


def test_comments_and_commas_too_many_are_passed_over() -> None:
    assert parse_jsonc('{"a": "// no /* comment", "b": [1, 2, /* , */ ], // ,\n}') == {
        "a": "// no /* comment",
        "b": [1, 2],
    }
    with pytest.raises(json.JSONDecodeError) as error:
        parse_jsonc('{\n // a comment\n "a": nothing}')
    assert (error.value.lineno, error.value.colno) == (3, 7)


def written(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_the_file_is_found_as_wrangler_finds_it(tmp_path: Path) -> None:
    inner = written(tmp_path / "a" / "b", "wrangler.toml", 'main = "x.js"')
    assert open_project(inner).config == inner / "wrangler.toml"
    written(tmp_path, "wrangler.json", '{"main": "y.js"}')
    assert open_project(inner).config == tmp_path / "wrangler.json"
    with pytest.raises(ProjectError, match="no wrangler"):
        open_project(Path("/"))


ENVIRONMENTS = """
name = "w"
main = "src/x.js"
compatibility_date = "2025-01-01"
[ai]
binding = "MIND"
[vars]
A = "top"
[env.prod]
compatibility_date = "2025-02-02"
[env.test]
ai = { binding = "AI" }
vars = { A = 1, B = [true] }
"""


def test_an_environment_inherits_what_wranglers_does(tmp_path: Path) -> None:
    folder = written(tmp_path, "wrangler.toml", ENVIRONMENTS)
    top, prod, test = (open_project(folder, environment=name) for name in (None, "prod", "test"))
    assert (top.ai_binding, top.variables(), top.notes) == ("MIND", {"A": "top"}, [])
    assert (prod.ai_binding, prod.variables()) == (None, {})
    assert prod.main == folder / "src/x.js"
    assert prod.settings["compatibility_date"] == "2025-02-02"
    assert "does not inherit it" in prod.notes[0]
    assert (test.ai_binding, test.variables(), test.notes) == ("AI", {"A": 1, "B": [True]}, [])
    with pytest.raises(ProjectError, match='no environment "stage": it has prod, test'):
        open_project(folder, environment="stage")


def test_local_variables_win_and_one_file_counts(tmp_path: Path) -> None:
    folder = written(tmp_path, "wrangler.toml", ENVIRONMENTS)
    written(folder, ".env", "A=env\nC=${A}!")
    assert open_project(folder).variables() == {"A": "env", "C": "env!"}
    written(folder, ".dev.vars", "S='a b'\nA=local")
    assert open_project(folder).variables() == {"A": "local", "S": "a b"}
    written(folder, ".dev.vars.test", "S=c")
    assert open_project(folder, environment="test").variables() == {"A": 1, "B": [True], "S": "c"}


@pytest.mark.parametrize("text", ["{", "[]", '{"env": 1}', "\0"])
def test_a_broken_configuration_is_one_line(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(written(tmp_path, "wrangler.json", text))
    result = CliRunner().invoke(main, ["dev"])
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "wrangler.json" in result.stderr


def test_wrangler_is_the_projects_own_then_npxs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    project = open_project(written(tmp_path / "p", "wrangler.toml", "[ai]"))
    with pytest.raises(ProjectError, match=r"there is no Node\.js here"):
        find_wrangler(project.folder)
    for name in ("npx", "node"):
        (tools / name).touch(mode=0o755)
    assert find_wrangler(project.folder) == [str(tools / "npx"), "wrangler"]
    package = written(tmp_path / "node_modules" / "wrangler", "package.json", '{"bin": {"wrangler": "./bin/w.js"}}')
    assert find_wrangler(project.folder) == [str(tools / "node"), str(package / "bin/w.js")]
    assert wrangler_dev(project, 1, None, ["--live-reload"])[2:] == ["dev", "--port", "1", "--live-reload"]


def test_workerds_configuration_says_all_that_the_project_does(tmp_path: Path) -> None:
    folder = written(tmp_path, "wrangler.toml", ENVIRONMENTS + 'name2 = "a"\n')
    written(folder / "src", "x.js", "export default {}")
    written(folder, ".dev.vars", "Q='say \"hi\" \\ é'")
    project = open_project(folder)
    text = config_for(project, "unix:/a", "http://127.0.0.1:2", "a token", "2025-01-01")
    assert 'moduleName = "cloudflare-internal:ai-api"' in text
    assert '(name = "MIND", wrapped' in text
    assert 'external = (address = "127.0.0.1:2"' in text
    assert 'value = "Bearer a token"' in text
    assert r'(name = "Q", text = "say \"hi\" \\ é")' in text
    assert one_module(project) == b"export default {}"


def test_the_environment_in_every_shells_words() -> None:
    variables = tool_environment("http://h:1", "it's", {"NODE_OPTIONS": "--no-warnings"})
    assert variables["NODE_OPTIONS"].endswith(" --no-warnings")
    assert tool_environment("http://h:1", "it's", variables)["NODE_OPTIONS"] == variables["NODE_OPTIONS"]
    assert variables["ROOST_BINDING_URL"] == "http://h:1/?roost-token=it%27s"
    assert json.loads(as_json(variables)) == variables
    script = export_lines(variables, "sh") + '\nprintf %s "$CLOUDFLARE_API_TOKEN$NODE_OPTIONS"'
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == variables["CLOUDFLARE_API_TOKEN"] + variables["NODE_OPTIONS"]
    assert r"set -gx CLOUDFLARE_API_TOKEN 'it\'s';" in export_lines(variables, "fish")
    assert "$env:CLOUDFLARE_API_TOKEN = 'it''s'" in export_lines(variables, "powershell")
    assert PRELOAD.is_file()


def test_without_preload_only_variables_remain(tmp_path: Path) -> None:
    variables = tool_environment("http://h:1", None, {}, preload=False)
    assert not {"NODE_OPTIONS", "ROOST_BINDING_URL", "NODE_EXTRA_CA_CERTS"} & variables.keys()
    assert variables["CLOUDFLARE_API_BASE_URL"] == "http://h:1/client/v4"
    authority = tmp_path / "a.pem"
    with_tls = tool_environment("http://h:1", None, {}, preload=False, authority=authority)
    assert with_tls["NODE_EXTRA_CA_CERTS"] == str(authority)


def test_the_authority_is_trusted_beside_what_is_trusted_already(tmp_path: Path) -> None:
    theirs = written(tmp_path / "theirs", "ca.pem", "THEIRS") / "ca.pem"
    folder = tmp_path / "tls"
    assert trusted_file(folder, str(theirs)) is None
    authority = written(folder, "authority.pem", "OURS") / "authority.pem"
    for none in (None, str(authority), str(tmp_path / "missing.pem")):
        assert trusted_file(folder, none) == authority
    both = trusted_file(folder, str(theirs))
    assert both is not None
    assert both.read_text() == "OURS\nTHEIRS"
    assert trusted_file(folder, str(both)) == both


def test_env_without_a_roost_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_CACHE", str(tmp_path))
    assert "type roost serve" in CliRunner().invoke(main, ["env"]).stderr
    printed = CliRunner().invoke(main, ["env", "--url", "http://h:1/", "--json"]).stdout
    assert json.loads(printed)["CLOUDFLARE_API_BASE_URL"] == "http://h:1/client/v4"


def test_arguments_of_wrangler_that_switch_roost_off_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(written(tmp_path, "wrangler.toml", "[ai]"))
    monkeypatch.setenv("PATH", "")  # there is no wrangler, so nothing starts
    said = CliRunner().invoke(main, ["dev", "--", "--local", "-r"]).stderr
    assert "--local switches the AI binding off" in said
    assert "--remote runs the Worker on Cloudflare's machines" in said
