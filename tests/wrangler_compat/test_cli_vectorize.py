"""``roost vectorize``, and the bindings that a configuration brings with it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from wrangler_compat.cli import main
from wrangler_compat.project import ProjectError, open_project
from wrangler_compat.python_project import PythonProject, read_python_project

HEAD = 'name = "w"\nmain = "entry.py"\ncompatibility_flags = ["python_workers"]\n'


def vectorize(*words: str) -> str:
    done = CliRunner().invoke(main, ["vectorize", *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.output


def read(folder: Path, text: str) -> PythonProject:
    (folder / "entry.py").touch()
    (folder / "wrangler.toml").write_text(HEAD + text)
    return read_python_project(open_project(folder), allow_missing=False)


def test_an_index_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(tmp_path, "")
    monkeypatch.chdir(tmp_path)
    assert "there is no index docs: roost vectorize create docs" in vectorize("get", "docs")
    assert 'index_name = "docs"' in vectorize("create", "docs", "--dimensions", "2", "--metric", "cosine")
    assert "already" in vectorize("create", "docs", "--dimensions", "2", "--metric", "cosine")
    assert "is no name" in vectorize("create", "../docs", "--dimensions", "2", "--metric", "cosine")
    assert "1 to 1536" in vectorize("create", "more", "--dimensions", "1537", "--metric", "cosine")
    rows = [{"id": str(number), "values": [number, 1], "metadata": {"n": number}} for number in range(1001)]
    (tmp_path / "a.ndjson").write_text("\n".join(map(json.dumps, rows)))
    assert "1001 vectors" in vectorize("insert", "docs", "--file", "a.ndjson")
    (tmp_path / "b.ndjson").write_text('{"id": "x", "values": [1]}\n')
    assert 'invalid vector for id="x", expected 2' in vectorize("insert", "docs", "--file", "b.ndjson")
    (tmp_path / "c.ndjson").write_text("\n{\n")
    assert "c.ndjson:2" in vectorize("insert", "docs", "--file", "c.ndjson")
    told = json.loads(vectorize("get", "docs"))
    assert (told["vectorCount"], told["config"]) == (1001, {"dimensions": 2, "metric": "cosine"})
    assert "docs" in vectorize("list")
    assert (tmp_path / ".wrangler/state/roost/vectorize/docs.sqlite").is_file()
    vectorize("delete", "docs")
    assert "docs" not in vectorize("list")


def test_the_configuration_is_read(tmp_path: Path) -> None:
    text = """
        [version_metadata]
        binding = "VERSION"
        [[vectorize]]
        binding = "INDEX"
        index_name = "docs"
        dimensions = 768
        metric = "cosine"
        [[ratelimits]]
        name = "RATE"
        namespace_id = "1"
        simple = { limit = 2, period = 10 }
        [[unsafe.bindings]]
        name = "OLD"
        type = "ratelimit"
        namespace_id = "2"
        simple = { limit = 3, period = 60 }
    """
    more = read(tmp_path, text).more
    assert more.indexes == {"INDEX": ("docs", 768, "cosine")}
    assert more.rates == {"RATE": ("1", 2, 10), "OLD": ("2", 3, 60)}
    assert more.version == "VERSION"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[vectorize]]\nbinding = "I"', "index_name"),
        ('[[vectorize]]\nbinding = "I"\nindex_name = "../x"', "no index's name"),
        ('[[vectorize]]\nbinding = "I"\nindex_name = "x"\nmetric = "cosine"', "1 to 1536 dimensions"),
        ('[[vectorize]]\nbinding = "I"\nindex_name = "x"\ndimensions = 3\nmetric = "far"', "a metric is one of"),
        ('[vectorize]\nbinding = "I"', "must be a list of tables"),
        ('[[ratelimits]]\nname = "R"\nsimple = { limit = 1, period = 10 }', "namespace_id"),
        ('[[ratelimits]]\nname = "R"\nnamespace_id = "1"\nsimple = { limit = 1, period = 11 }', "10 or 60"),
        ("[version_metadata]", 'needs a "binding"'),
    ],
)
def test_its_mistakes_are_said(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ProjectError, match=words):
        read(tmp_path, text)
