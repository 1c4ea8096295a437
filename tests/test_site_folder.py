"""The built folder: replaced whole, never half, and nothing else is overwritten."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from html_pages import Page
from leaderboard_entries import Fake, build, write_entries
from typer.testing import CliRunner

from genrobust.cli.app import app
from genrobust.errors import GenrobustError
from genrobust.site import build as building
from genrobust.site.build import MARKER


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_entries_give_the_same_bytes(
    fake_site: Path, fake_entries: Path, tmp_path: Path
) -> None:
    shutil.copytree(fake_entries, tmp_path / "moved")
    build(tmp_path / "moved", tmp_path / "again")
    assert files_of(tmp_path / "again") == files_of(fake_site)


def test_a_site_is_replaced_whole(fake_entries: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    write_entries(tmp_path / "few", [Fake("only")])
    build(tmp_path / "few", out)
    build(fake_entries, out)
    assert not (out / "digits-v2/only").exists()
    assert (out / "digits-v2/strong/index.html").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"few", "site"}


def test_a_build_that_fails_midway_leaves_the_old_site(
    fake_entries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "site"
    build(fake_entries, out)
    before = files_of(out)

    def half(boards: object) -> Iterator[tuple[str, bytes]]:
        yield "index.html", b"half"
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "render", half)
    with pytest.raises(KeyboardInterrupt):
        build(fake_entries, out)
    assert files_of(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_rename_that_fails_puts_the_old_site_back(
    fake_entries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "site"
    build(fake_entries, out)
    before, real = files_of(out), os.rename

    def refuse_new(source: Path, target: Path) -> None:
        if source.name == "site" and target == out:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(building, "_exchange", lambda new, old: False)
    monkeypatch.setattr(os, "rename", refuse_new)
    with pytest.raises(GenrobustError, match="No space left"):
        build(fake_entries, out)
    assert files_of(out) == before


@pytest.mark.parametrize("kind", ["full", "file", "link"])
def test_what_is_not_a_site_is_left_alone(kind: str, fake_entries: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir()
        out.symlink_to(tmp_path / "elsewhere")
    else:
        out.mkdir()
        (out / "thesis.tex").write_text("mine")
    with pytest.raises(GenrobustError, match="--out"):
        build(fake_entries, out)
    assert out.is_symlink() or (out if out.is_file() else out / "thesis.tex").read_text() == "mine"


def test_an_empty_folder_is_filled(fake_entries: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    build(fake_entries, tmp_path / "out")
    assert (tmp_path / "out" / MARKER).exists()


def test_without_entries_the_site_says_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "entries").mkdir()
    assert build(tmp_path / "entries", tmp_path / "site") == ()
    page = Page((tmp_path / "site/index.html").read_text())
    assert "No entries yet" in page.text
    assert "genrobust submit" in page.text


def test_a_folder_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["leaderboard", "build", "--entries", str(tmp_path / "no")])
    assert result.exit_code == 2
    assert "--entries" in result.output
