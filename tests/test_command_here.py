"""The command that is told to be typed again works from any folder of this machine."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from genrobust.cli.app import app
from genrobust.records.record import Record
from genrobust.runner.options import Options
from genrobust.runner.provenance import _rooted
from genrobust.suites import load_suite

pytestmark = pytest.mark.usefixtures("brief")


@pytest.mark.slow
def test_a_run_that_lacks_shards_names_a_command_that_does_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all that lies somewhere: results, weights, suite and data."""
    home = tmp_path / "a home"
    home.mkdir()
    monkeypatch.chdir(home)
    suite = load_suite("digits").limited(2).model_copy(update={"name": "own", "chunk_size": 1})
    short = suite.with_attacks(["noise"]).model_copy(update={"eps": (0.1,)})
    Path("mine.json").write_text(short.model_dump_json())
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


MINE = """
import torch
from torch import nn

class Model(nn.Module):
    input_shape = (1, 8, 8)

    def encode(self, x):
        return 0.1 + 0.8 * x.flatten(1)

    def decode(self, z):
        return z.view(-1, 1, 8, 8)

class Judge(nn.Module):
    def forward(self, x):
        return 20 * torch.stack([x[..., :4].mean((1, 2, 3)), x[..., 4:].mean((1, 2, 3))], 1)

class Other(Judge):
    pass
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "given"),
    [
        (".", "of a suite's file"),
        ("sub", "of a suite drawn from pictures"),
        ("sub", "of a suite's file"),
        ("sub", "in place of a suite's"),
    ],
)
def test_judges_of_ones_own_are_found_from_any_folder(
    where: str, given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By 'collect', and by what 'status' says is to be typed; and no record says where they lie."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    (home / where).mkdir(parents=True)
    elsewhere.mkdir()
    monkeypatch.chdir(home)
    (home / where / "mine.py").write_text(MINE)
    labels = np.arange(8) % 2
    images = np.full((8, 1, 8, 8), 0.2, "float32")
    images[labels == 0, ..., :4] = images[labels == 1, ..., 4:] = 0.8
    np.savez("pictures.npz", images=images, labels=labels)
    own = ["--data", "pictures.npz", "--sources", "4", "--eps", "0.1", "--attack", "noise"]
    names = {f"{where}/mine.py:{name}" for name in ("Judge", "Other")}
    judges = [word for name in sorted(names) for word in ("--judge", name)]
    words = ["bench", "--model", f"{where}/mine.py:Model"]
    if given == "of a suite drawn from pictures":
        words += [*own, *judges]
    else:
        make = ["suite", "make", "--out", "mine.json", *words[1:], *own[:-2], *judges]
        assert CliRunner().invoke(app, make).exit_code == 0
        words += ["--suite", "mine.json"]
        words += judges if given == "in place of a suite's" else []
    ended = CliRunner().invoke(app, [*words, "--out", "runs", "--shard", "1/1"])
    assert ended.exit_code == 0, ended.output
    (plan,) = Path("runs").rglob("plan.json")
    folder = plan.parent.absolute()

    monkeypatch.chdir(elsewhere)
    ended = CliRunner().invoke(app, ["status", str(folder)])
    typed = shlex.split(ended.output.partition("goes on with: ")[2])[1:]
    for again in (["collect", str(folder)], typed):
        (folder / "record.json").unlink(missing_ok=True)
        ended = CliRunner().invoke(app, again)
        assert ended.exit_code == 0, ended.output
        found = Record.load(folder)
        assert {judge.architecture for judge in found.suite.judges} == names
    assert [path.parent for path in tmp_path.rglob("record.json")] == [folder]


@pytest.mark.parametrize(
    ("dataset", "given", "found"),
    [
        ("a.npz", "root", "root"),
        ("a.py:data", "root", "root"),
        ("b.npz", "root", "."),
        ("b.py:data", "root", "."),
        ("b.npz", None, "."),
        ("digits", "root", "root"),
        ("digits", None, None),
    ],
)
@pytest.mark.parametrize("said", ["by an option", "by the environment"])
def test_the_root_of_pictures_is_where_they_lie(
    said: str,
    dataset: str,
    given: str | None,
    found: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A root is of all data, and a place that is not below it starts from the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("root").mkdir()
    for name in ("root/a.npz", "root/a.py", "b.npz", "b.py"):
        Path(name).touch()
    suite = load_suite("digits").model_copy(update={"dataset": f"{dataset}?shape=1x32x32"})
    monkeypatch.delenv("GENROBUST_DATA", raising=False)
    root = None if given is None else tmp_path / given
    if root is not None and said == "by the environment" and dataset != "digits":
        monkeypatch.setenv("GENROBUST_DATA", str(root))
        root = None
    wanted = None if found is None else (tmp_path / found).resolve()
    assert _rooted(Options(data_root=root), suite).data_root == wanted
