"""One's own runs beside the leaderboard's, and the server that shows them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from html_pages import Page
from leaderboard_entries import Fake, boards_with_runs, write_run
from site_parts import FAKES
from typer.testing import CliRunner

from genrobust.cli.app import app
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.site.export import row_values
from genrobust.site.pages import render


def test_own_runs_take_part_and_are_marked(fake_entries: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "digits-v2/mine", Fake("mine", 0.8, 11))
    write_run(tmp_path / "digits-v2/old", Fake("old", 0.5, 12), outcomes=False)
    write_run(tmp_path / "digits-v2/part", Fake("part", 0.99, 13, record={"official": False}))
    (found,) = boards_with_runs(fake_entries, tmp_path)
    by_name = {row.contender.id: row for row in found.rows}
    assert by_name["yours/mine"].rank == 1
    assert by_name["yours/old"].standing == "without outcomes"
    assert by_name["yours/old"].rank is None
    assert by_name["yours/part"].standing == "not official"
    pages = dict(render([found]))
    assert "Yours, not submitted." in Page(pages["digits-v2/yours/mine/index.html"].decode()).text
    assert Page(pages["digits-v2/index.html"].decode()).text.count("yours, not submitted") == 3
    assert row_values(found, by_name["yours/old"])["standing"].startswith("yours")


def test_a_submitted_run_is_not_shown_twice(fake_entries: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    shutil.copy(fake_entries / "digits-v2/strong/record.json", tmp_path / "run")
    (found,) = boards_with_runs(fake_entries, tmp_path)
    assert len(found.rows) == len(FAKES)


def test_runs_of_one_name_have_pages_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path / "a/My VAE", Fake("vae", 0.5, 1))
    write_run(tmp_path / "b/my-vae", Fake("vae", 0.4, 2))
    (found,) = boards_with_runs(None, tmp_path)
    assert {row.contender.id for row in found.rows} == {"yours/my-vae", "yours/my-vae-2"}


def test_a_run_that_cannot_be_read_is_left_out_with_a_warning(tmp_path: Path) -> None:
    write_run(tmp_path / "good", Fake("good"))
    write_run(tmp_path / "other", Fake("other", 0.5, 5))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/record.json").write_text('{"schema_version": 1}')
    outcomes = json.loads((tmp_path / "other/outcomes.json").read_text())
    outcomes["sample_ids"].reverse()
    (tmp_path / "other/outcomes.json").write_text(json.dumps(outcomes))
    with pytest.warns(GenrobustWarning) as warned:
        (found,) = boards_with_runs(None, tmp_path)
    words = sorted(str(one.message) for one in warned)
    assert len(words) == 2
    assert "bad" in words[0]
    assert "outcomes.json' is not used" in words[1]
    assert {row.contender.id: row.standing for row in found.rows} == {
        "yours/good": "ranked",
        "yours/other": "without outcomes",
    }


@pytest.mark.parametrize("file", ["record.json", "outcomes.json"])
def test_a_run_whose_files_contradict_each_other_is_left_out(file: str, tmp_path: Path) -> None:
    """Neither tells which of them is true."""
    write_run(tmp_path / "good", Fake("good"))
    write_run(tmp_path / "edited", Fake("edited", 0.5, 5))
    shutil.copy(tmp_path / "good" / file, tmp_path / "edited")
    said = (
        r"edited/record\.json' is left out: .*claims .* and outcomes\.json gives .*measure it again"
    )
    with pytest.warns(GenrobustWarning, match=said):
        (found,) = boards_with_runs(None, tmp_path)
    assert [row.contender.id for row in found.rows] == ["yours/good"]


def test_nothing_to_show_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(GenrobustError, match="genrobust bench"):
        boards_with_runs(None, tmp_path / "none")


@pytest.mark.slow
def test_serve_answers_on_this_machine_until_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # away from the leaderboard's own entries
    write_run(tmp_path / "runs/mine", Fake("mine"))
    words = [sys.executable, "-m", "genrobust", "leaderboard", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*words, "--runs", "runs"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        url = process.stdout.readline().split()[0]
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{url}digits-v2/index.html") as answer:
            assert "yours, not submitted" in answer.read().decode()
        port = url.rstrip("/").rpartition(":")[2]
        named = urllib.request.Request(url, headers={"Host": f"localhost:{port}"})
        with urllib.request.urlopen(named) as answer:
            assert answer.status == 200
        foreign = urllib.request.Request(url, headers={"Host": f"evil.example:{port}"})
        with pytest.raises(urllib.error.HTTPError, match="421"):
            urllib.request.urlopen(foreign)
        busy = CliRunner().invoke(
            app, ["leaderboard", "serve", "--port", port, "--runs", str(tmp_path / "runs")]
        )
        assert busy.exit_code == 2
        assert f"port {port} cannot be used" in busy.output
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_port_must_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # away from the leaderboard's own entries
    write_run(tmp_path / "mine", Fake("mine"))
    result = CliRunner().invoke(
        app, ["leaderboard", "serve", "--runs", str(tmp_path), "--port", "99999"]
    )
    assert result.exit_code == 2
    assert "65535" in result.output
