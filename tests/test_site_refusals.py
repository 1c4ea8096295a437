"""What is left out of a board, and with what sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from leaderboard_entries import Fake, read_entries, sha256, write_entries
from site_parts import DIGITS, N, edit, entry_folder, set_at
from typer.testing import CliRunner

from genrobust.board.board import contender, make_board
from genrobust.cli.app import app
from genrobust.errors import GenrobustError, GenrobustWarning


def put(name: str, content: bytes) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).write_bytes(content)
        edit("entry.json", lambda e: e["files"].update({name: sha256(content)}))(folder)

    return apply


PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"

REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no record": (lambda f: (f / "record.json").unlink(), "record.json is missing"),
    "no outcomes": (lambda f: (f / "outcomes.json").unlink(), "outcomes.json is missing"),
    "not JSON": (lambda f: (f / "entry.json").write_text("{"), "entry.json"),
    "unknown field": (edit("entry.json", set_at("rank", 1)), "rank"),
    "another slug": (edit("entry.json", set_at("slug", "else")), "slug 'else'"),
    "another board": (edit("entry.json", set_at("suite", "mnist-v2")), "'mnist-v2'"),
    "another suite": (edit("record.json", set_at("suite", "version", 1)), "digits-v1"),
    "another model": (edit("record.json", set_at("model", "fingerprint", "e" * 64)), "fingerprint"),
    "a changed suite": (edit("record.json", set_at("suite", "eps", 0, 0.01)), "suite_sha256"),
    "not official": (edit("record.json", set_at("official", False)), "official"),
    "a hash": (edit("record.json", set_at("seed", 9), rehash=False), "by its hash"),
    "a better score": (
        edit("record.json", set_at("scores", "per_eps", 1, "robust_accuracy", "value", 0.99)),
        "robust accuracy at eps 0.04",
    ),
    "fewer successes": (
        edit("record.json", set_at("scores", "per_eps", 0, "as_target", "value", 0.5)),
        "as_target at eps 0.02",
    ),
    "more eligible": (edit("record.json", set_at("scores", "eligible", N + 1)), "eligible"),
    "a better area": (
        edit("record.json", set_at("scores", "robust_area", "value", 0.99)),
        "robust area",
    ),
    "NaN": (edit("record.json", set_at("scores", "eps50", float("nan"))), "NaN"),
    "infinity": (edit("record.json", set_at("scores", "kl", "value", float("inf"))), "infinite"),
    "other outcomes": (
        edit("outcomes.json", set_at("ignore_target", [None] * N)),
        "outcomes.json gives",
    ),
    "an outcome less": (edit("outcomes.json", set_at("target", [None])), "lengths"),
    "no such radius": (edit("outcomes.json", set_at("target", 0, 99)), "radius"),
    "other sources": (edit("outcomes.json", set_at("sample_ids", 0, 4321)), "sources"),
    "a link": (lambda f: (f / "traversals.png").symlink_to("/etc/passwd"), "is a link"),
    "no PNG": (put("thumbnails.png", b"<svg onload=alert(1)>" * 9), "not a PNG"),
    "a vast PNG": (put("thumbnails.png", PNG + b"\x7f\xff\xff\xff" * 2), "is 2147483647 by"),
    "a heavy PNG": (put("thumbnails.png", PNG + bytes(3 * 2**20)), "bytes"),
    "an attack as model": (edit("entry.json", set_at("kind", "attack")), "attacks/"),
    "a script as link": (
        edit("entry.json", set_at("submission", "links", 0, "url", "javascript:alert(1)")),
        "url",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_entry_that_does_not_fit_is_left_out_with_a_sentence(name: str, tmp_path: Path) -> None:
    spoil, reason = REFUSED[name]
    write_entries(tmp_path / "entries", [Fake("vae", attacks=(Fake("search", 0.3, 2),))])
    spoil(entry_folder(tmp_path / "entries"))
    out = tmp_path / "site"
    result = CliRunner().invoke(
        app, ["leaderboard", "build", "--entries", str(tmp_path / "entries"), "--out", str(out)]
    )
    assert result.exit_code == 0
    lines = [line for line in result.output.splitlines() if line.startswith("Warning:")]
    assert any(reason in line and "digits-v2/vae" in line for line in lines), result.output
    assert not (out / "digits-v2").exists()


def test_a_folder_without_an_entry_is_left_out_and_said(tmp_path: Path) -> None:
    write_entries(tmp_path, [Fake("vae")])
    (entry_folder(tmp_path).parent / "leftover").mkdir()
    with pytest.warns(GenrobustWarning, match="leftover' is left out: it has no entry.json"):
        found = read_entries(tmp_path)
    assert [entry.folder.name for entry in found] == ["vae"]


def test_an_attack_on_another_model_or_on_no_entry_is_refused(tmp_path: Path) -> None:
    write_entries(tmp_path, [Fake("vae", attacks=(Fake("search", 0.3, 2),))])
    folder = entry_folder(tmp_path) / "attacks/search"
    edit("entry.json", set_at("fingerprint", "e" * 64))(folder)
    with pytest.raises(GenrobustError, match="fingerprints"):
        read_entries(tmp_path)
    (folder / "entry.json").unlink()
    with pytest.raises(GenrobustError, match=r"search'.* entry\.json is missing"):
        read_entries(tmp_path)


def test_an_attack_on_other_sources_is_refused(tmp_path: Path) -> None:
    write_entries(tmp_path, [Fake("vae", attacks=(Fake("search", 0.3, 2),))])
    folder = entry_folder(tmp_path) / "attacks/search"
    other = DIGITS.model_copy(update={"target_ids": DIGITS.target_ids[::-1]})
    edit("record.json", set_at("suite", "target_ids", list(other.target_ids)))(folder)
    edit("record.json", set_at("suite_sha256", other.sha256))(folder)
    with pytest.raises(GenrobustError, match="other sources, radii or judges"):
        read_entries(tmp_path)


def test_entries_of_a_board_must_be_of_one_suite(tmp_path: Path) -> None:
    write_entries(tmp_path, [Fake("one")])
    changed = DIGITS.model_copy(update={"resamples": 7})
    write_entries(tmp_path, [Fake("two")], changed)
    with pytest.raises(GenrobustError, match="'one' and 'two' differ"):
        make_board(list(map(contender, read_entries(tmp_path))))


def test_a_folder_that_is_no_board_is_left_out_and_said(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    with pytest.warns(GenrobustWarning, match="not named after a suite, such as digits-v2"):
        assert read_entries(tmp_path) == ()
