"""A run is where its folder is: moved, renamed, of an edited model, or made in Python."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from told import cli
from typer.testing import CliRunner

import genrobust
from genrobust._version import __version__
from genrobust.cli.app import app
from genrobust.records.again import again
from genrobust.suites import Suite, load_suite

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("brief")]


@pytest.fixture(scope="module")
def cheap() -> Suite:
    """Two shards of a digit each."""
    suite = load_suite("digits").limited(2).with_attacks(["noise"]).with_eps([0.1])
    judge = load_suite("digits-v1").attacker_judge  # not the whole committee
    update = {"name": "cheap", "chunk_size": 1, "resamples": 50, "attacker_judge": judge}
    return suite.model_copy(update=update)


@pytest.mark.parametrize("place", ["moved/cheap-v2/vae", "renamed"])
@pytest.mark.parametrize("command", ["bench", "curve"])
def test_a_run_that_was_moved_is_collected_and_goes_on_where_it_lies(
    command: str, place: str, cheap: Suite, tmp_path: Path
) -> None:
    (tmp_path / "suite.json").write_text(cheap.model_dump_json())
    run = (command, "--model", "vae", "--suite", tmp_path / "suite.json", "--workers", 1)
    begun = Path(cli(*run, "--out", tmp_path / "out", "--shard", "1/1").splitlines()[-1])
    here = tmp_path / place / begun.relative_to(tmp_path / "out" / "cheap-v2" / "vae")
    here.parent.mkdir(parents=True, exist_ok=True)
    begun.rename(here)
    (lost, *_) = sorted((here / "shards").iterdir())
    content = lost.read_bytes()
    lost.write_bytes(b"damaged")
    done = CliRunner().invoke(app, ["collect", str(here)])
    assert done.exit_code == 2
    assert "1 of 2 shards are missing" in done.output
    if place == "renamed":
        assert f"move '{here}' to a path that ends in 'cheap-v2/vae" in done.output
        assert f"as '{begun}' does" in cli("status", here)
        lost.write_bytes(content)
    else:
        assert f"--out {tmp_path / 'moved'}" in cli("status", here)
        cli(*shlex.split(done.output.partition("genrobust ")[2]))
    cli("collect", here)
    assert list(here.glob("*.json"))
    assert {path.parent for path in tmp_path.rglob("plan.json")} == {here}
    assert "2 of 2 shards done, finished" in cli("status", here)


def test_shards_of_a_model_that_was_edited_since_are_not_collected(
    cheap: Suite, tmp_path: Path
) -> None:
    file, code = tmp_path / "net.py", "import genrobust\ndef build():\n    return {}\n"
    (tmp_path / "suite.json").write_text(cheap.model_dump_json())
    file.write_text(code.format("genrobust.load_model('vae')"))
    run = ("bench", "--model", f"{file}:build", "--suite", tmp_path / "suite.json", "--workers", 1)
    folder = cli(*run, "--out", tmp_path / "out", "--shard", "1/1").splitlines()[-1]
    file.write_text(code.format("genrobust.load_model('betavae')"))
    done = CliRunner().invoke(app, ["collect", folder])
    assert done.exit_code == 2
    assert f"'{folder}' holds the shards of another model than its command gives now" in done.output
    assert [path.parent for path in tmp_path.rglob("plan.json")] == [Path(folder)]


def test_a_run_made_in_python_is_collected_in_its_folder(
    cheap: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mine"
    genrobust.bench("vae", cheap, executor="serial", out=folder)
    Path("cheap.json").write_text(cheap.model_dump_json())
    (folder / "record.json").unlink()
    assert f"to go on, call genrobust.bench again as it was called, with out='{folder}'" in (
        cli("status", folder)
    )
    cli("collect", folder)
    assert (folder / "record.json").exists()
    assert not Path("genrobust-runs").exists()


def test_a_run_that_another_version_began_is_finished_by_that_one(
    cheap: Suite, tmp_path: Path
) -> None:
    (tmp_path / "suite.json").write_text(cheap.model_dump_json())
    run = ("bench", "--model", "vae", "--suite", tmp_path / "suite.json", "--workers", 1)
    folder = Path(cli(*run, "--out", tmp_path / "out", "--shard", "1/2").splitlines()[-1])
    plan = folder / "plan.json"
    version = f'"genrobust": "{__version__}"'
    plan.write_text(plan.read_text().replace(version, '"genrobust": "0.0.9"'))
    words = f"install genrobust 0.0.9, which began it (here is {__version__}), or measure it anew"
    done = CliRunner().invoke(app, ["collect", str(folder)])
    assert (done.exit_code, words in done.output) == (2, True), done.output
    assert f"to go on, {words}" in cli("status", folder)
    assert again(folder, "").startswith(words)
