"""The command that is told to be typed again works from any folder of this machine."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from genrobust.cli.app import app
from genrobust.suites import load_suite


def test_a_run_that_lacks_shards_names_a_command_that_does_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all that lies somewhere: results, weights, suite and data."""
    home = tmp_path / "a home"
    home.mkdir()
    monkeypatch.chdir(home)
    suite = load_suite("digits").limited(4).model_copy(update={"name": "own", "chunk_size": 2})
    brief = suite.with_attacks(["noise"]).model_copy(update={"eps": (0.1,)})
    Path("mine.json").write_text(brief.model_dump_json())
    shipped = Path(load_suite.__code__.co_filename).parents[1] / "weights" / "digits"
    shutil.copy(shipped / "vae.safetensors", "own.safetensors")
    shutil.copy(shipped / "vae.json", "own.json")
    words = ["bench", "--model", "vae", "--weights", "own.safetensors", "--suite", "mine.json"]
    where = ["--out", "results", "--workers", "1", "--data-root", "data"]
    ended = CliRunner().invoke(app, [*words, *where])
    assert ended.exit_code == 0, ended.output
    (record,) = Path("results").rglob("record.json")
    folder = record.parent.absolute()
    assert str(tmp_path) not in record.read_text()
    for shard in list((folder / "shards").iterdir())[:1]:
        shard.unlink()

    monkeypatch.chdir(tmp_path)
    said = ["--name", "x", "--author", "A", "--licence", "MIT", "--training-data", "d"]
    given = ["--model", "vae", "--weights", str(home / "own.safetensors")]
    content = json.loads((folder / "record.json").read_text())
    content.update(official=True, deviations=[])
    (folder / "record.json").write_text(json.dumps(content))
    ended = CliRunner().invoke(app, ["submit", str(folder), *said, *given])
    assert ended.exit_code == 2
    told = ended.output.partition("what is missing: ")[2].strip()
    program, *again = shlex.split(told)
    assert program == "genrobust"
    ended = CliRunner().invoke(app, again)
    assert ended.exit_code == 0, ended.output
    assert str(folder / "record.json") in ended.output
    assert len(list((folder / "shards").iterdir())) == 2
