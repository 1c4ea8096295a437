"""A suite's name means its newest version; what was measured on an earlier one stays that."""

from __future__ import annotations

import json
from pathlib import Path

from leaderboard_entries import Fake, build, write_entries

import genrobust
from genrobust import Record
from genrobust.runner.places import PLAN
from genrobust.runner.status import Planned
from genrobust.suites import load_suite

ENTRIES = Path(__file__).parent.parent / "leaderboard" / "entries"


def test_the_newest_board_comes_first_and_an_earlier_one_says_what_it_is(tmp_path: Path) -> None:
    for name in ("digits-v1", "digits-v2"):
        write_entries(tmp_path / "entries", [Fake("vae", pictures=False)], load_suite(name))
    boards = build(tmp_path / "entries", tmp_path / "site")
    assert [board.name for board in boards] == ["digits-v2", "digits-v1"]
    assert [board.newer for board in boards] == [None, "digits-v2"]
    home, old, new = (
        (tmp_path / "site" / place / "index.html").read_text()
        for place in ("", "digits-v1", "digits-v2")
    )
    said = "An earlier version of the suite"
    assert [page.count(said) for page in (home, old, new)] == [1, 1, 0]
    assert home.index('id="digits-v2"') < home.index('id="digits-v1"') < home.index(said)
    assert "--suite digits-v1 --evidence" in old
    assert "--suite digits-v2 --evidence" in new
    typed = (tmp_path / "site" / "digits-v1" / "vae" / "index.html").read_text()
    assert "genrobust bench --suite digits-v1 --seed" in typed


def test_the_first_entries_are_of_version_1_and_say_so() -> None:
    """They were made when ``digits`` was version 1."""
    for path in sorted(ENTRIES.glob("*-v1/*")):
        record = Record.load(path)
        assert record.suite == load_suite(path.parent.name)
        assert f"--suite {record.suite.name} " in record.provenance.command
        assert f"--suite {path.parent.name} " in record.command


def test_a_run_that_was_begun_on_version_1_goes_on_with_it(tmp_path: Path) -> None:
    settings = {"attacks": ["noise"], "eps": [0.1], "limit": 1, "out": tmp_path}
    genrobust.bench("vae", "digits-v1", **settings)
    (plan,) = tmp_path.rglob(PLAN)
    content = json.loads(plan.read_text())
    assert "--suite digits-v1" in content["command"]
    content["command"] = content["command"].replace("--suite digits-v1", "--suite digits")
    plan.write_text(json.dumps(content))
    assert "--suite digits-v1" in Planned.read(plan.parent).command
