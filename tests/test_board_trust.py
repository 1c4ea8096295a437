"""A site believes nothing of an entry that it has not verified: words beside it least of all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from evidence_runs import BOARD, Forger, registered, sha256
from typer.testing import CliRunner

from genrobust.board.board import Board, contender, make_boards
from genrobust.cli.app import app
from genrobust.errors import GenrobustWarning
from genrobust.evidence.bundle import EVIDENCE
from genrobust.evidence.entry import Verification
from genrobust.verify.entries import verified_entries


@pytest.fixture
def entries(tiny_entry: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_entry, tmp_path / "entries" / BOARD / tiny_entry.name)
    return tmp_path / "entries"


@pytest.fixture
def forger(entries: Path, tmp_path: Path) -> Forger:
    """Of another entry beside the honest one."""
    honest = entries / BOARD / "plain-vae"
    copied = entries / BOARD / "forged"
    shutil.copytree(honest, copied)
    made = Forger(copied, tmp_path / "made")
    shutil.rmtree(copied)
    made.folder = made.folder.rename(copied)
    return made


def boards(entries: Path) -> dict[str, str]:
    """The standings on the board."""
    with registered():
        made: tuple[Board, ...] = make_boards(map(contender, verified_entries(entries)))
    return {row.contender.id: row.standing for board in made for row in board.rows}


def badge(folder: Path, **said: object) -> None:
    """A verification of the entry as it is, by hand."""
    told = json.loads((folder / "verification.json").read_text())
    told |= {"entry_sha256": sha256((folder / "entry.json").read_bytes()), **said}
    (folder / "verification.json").write_text(json.dumps(told))


def better(forger: Forger) -> None:
    """Scores that do not follow, with every hash as it must be, and a badge."""
    area = forger.evidence.record.scores.robust_area
    assert area is not None
    told = area.model_copy(update={"value": 0.99, "low": 0.98, "high": 1.0})
    forger.scores(robust_area=told).written(slug="forged")
    badge(forger.folder, depth="re-attack")


def other_evidence(forger: Forger) -> None:
    """Evidence of the same length that entry.json does not name, verified before it came."""
    forger.written(slug="forged")
    badge(forger.folder, depth="re-attack")
    archive = forger.folder / EVIDENCE
    content = archive.read_bytes()
    archive.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def no_evidence(forger: Forger) -> None:
    forger.written(slug="forged")
    badge(forger.folder, depth="re-attack")
    (forger.folder / EVIDENCE).unlink()


def no_json(forger: Forger) -> None:
    forger.written(slug="forged")
    (forger.folder / "record.json").write_text("{")


def a_file_more(forger: Forger) -> None:
    forger.written(slug="forged")
    badge(forger.folder)
    (forger.folder / "run.sh").write_text("true")


FORGED: dict[str, tuple[Callable[[Forger], None], str]] = {
    "a better score": (better, "robust area|robust_area"),
    "other evidence": (other_evidence, "not the file that entry.json names"),
    "no evidence": (no_evidence, "evidence.zip is missing"),
    "no JSON": (no_json, "record.json"),
    "a file more": (a_file_more, "no part of an entry"),
}


@pytest.mark.parametrize("what", FORGED)
def test_what_does_not_hold_is_left_out_whatever_its_badge(
    forger: Forger, entries: Path, what: str
) -> None:
    forge, why = FORGED[what]
    forge(forger)
    with pytest.warns(GenrobustWarning, match=f"forged' is left out: .*({why})"):
        assert boards(entries) == {"plain-vae": "ranked"}


def another_entrys(folder: Path) -> None:
    edited = json.loads((folder / "entry.json").read_text())
    edited["submission"]["note"] = "changed since"
    (folder / "entry.json").write_text(json.dumps(edited))


@pytest.mark.parametrize(
    "spoil",
    [another_entrys, lambda f: badge(f, entry_sha256="0" * 64), lambda f: badge(f, depth="schema")],
)
def test_a_badge_of_another_entry_or_no_replay_gives_no_rank(
    entries: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(entries / BOARD / "plain-vae")
    assert boards(entries) == {"plain-vae": "not replayed"}


def test_a_badge_that_cannot_be_read_is_none(entries: Path) -> None:
    (entries / BOARD / "plain-vae" / "verification.json").write_text('{"depth": "re-attack"}')
    with pytest.warns(GenrobustWarning, match="counts as not verified"):
        assert boards(entries) == {"plain-vae": "not replayed"}


@pytest.mark.slow
def test_a_deeper_build_reads_no_badge(entries: Path, forger: Forger) -> None:
    """An honest one without any is ranked, and a hidden success with the deepest is left out."""
    (entries / BOARD / "plain-vae" / "verification.json").unlink()
    forger.tensors(input_verdict=forger.evidence.tensors["input_verdict"].roll(1)).written(
        slug="forged"
    )
    badge(forger.folder, depth="re-attack", passed=True)
    with registered(), pytest.warns(GenrobustWarning, match="forged' is left out"):
        (found,) = verified_entries(entries, "replay")
    (board,) = make_boards([contender(found)])
    assert [(row.contender.id, row.standing) for row in board.rows] == [("plain-vae", "ranked")]
    assert isinstance(found.verification, Verification)
    assert found.verification.rate is not None


def test_an_attack_that_does_not_hold_takes_nothing_with_it(entries: Path, tmp_path: Path) -> None:
    model = entries / BOARD / "plain-vae"
    shutil.copytree(model, tmp_path / "attack")
    (model / "attacks").mkdir()
    (tmp_path / "attack").rename(model / "attacks" / "search")
    with pytest.warns(GenrobustWarning, match="search' is left out"):
        assert boards(entries) == {"plain-vae": "ranked"}


def test_the_command_says_what_it_leaves_out(entries: Path, forger: Forger) -> None:
    better(forger)
    out = entries.parent / "site"
    with registered():
        words = ["leaderboard", "build", "--entries", str(entries), "--out", str(out)]
        done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "forged' is left out: " in done.output
    assert f"{BOARD}: 1 entries, 1 ranked" in done.output
    assert not (out / BOARD / "forged").exists()


@pytest.mark.parametrize("kind", ["folder", "pipe", "of another entry"])
def test_what_is_no_verification_is_not_offered_as_one(kind: str, entries: Path) -> None:
    path, out = entries / BOARD / "plain-vae" / "verification.json", entries.parent / "site"
    words = ["leaderboard", "build", "--entries", str(entries), "--out", str(out)]
    with registered():
        assert CliRunner().invoke(app, words).exit_code == 0
        assert (out / BOARD / "plain-vae" / path.name).read_bytes() == path.read_bytes()
        if kind == "of another entry":
            badge(path.parent, entry_sha256="0" * 64)
        else:
            path.unlink()
            path.mkdir() if kind == "folder" else os.mkfifo(path)
        done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    page = (out / BOARD / "plain-vae" / "index.html").read_text()
    assert path.name not in page
    assert not (out / BOARD / "plain-vae" / path.name).exists()
