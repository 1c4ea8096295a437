"""The built site: a folder that is whole or not there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from genrobust.errors import GenrobustError
from genrobust.leaderboard.board import Board, Contender, make_board
from genrobust.leaderboard.entries import LoadedEntry, read_entries
from genrobust.leaderboard.site.pages import render

#: A folder with this file in it may be replaced.
MARKER = ".genrobust-site"


def build(entries: Path, out: Path) -> tuple[Board, ...]:
    """Make the site of the entries below a folder.

    It is written beside ``out`` and then put in its place, so that ``out`` is always a whole site.
    Equal entries give equal bytes.

    Args:
        entries: holds ``SUITE-vVERSION/SLUG/entry.json`` and what belongs to it.
        out: where the site goes; an earlier site there is replaced.

    Returns:
        The boards that were made.

    Raises:
        GenrobustError: an entry does not fit; ``out`` holds something else than a site, or cannot
            be written.
    """
    refuse_target(out)
    boards = make_boards([contender(entry) for entry in read_entries(entries)])
    replace_site(out, render(boards))
    return boards


def contender(loaded: LoadedEntry) -> Contender:
    """A submitted entry as one of its board."""
    entry = loaded.entry
    return Contender(entry.slug, entry.submission.name, loaded.record, loaded.outcomes, loaded)


def make_boards(contenders: Iterable[Contender]) -> tuple[Board, ...]:
    """A board for each suite and version that was measured, in the order of their names."""
    ordered = sorted(contenders, key=_suite)
    return tuple(make_board(list(group)) for _, group in groupby(ordered, key=_suite))


def refuse_target(out: Path) -> None:
    """Raise GenrobustError unless ``out`` is not there, empty, or a built site."""
    if not (out.exists() or out.is_symlink()):
        return
    if out.is_symlink() or not out.is_dir():
        raise GenrobustError(f"'{out}' is not a folder; choose another with --out")
    if any(out.iterdir()) and not (out / MARKER).is_file():
        raise GenrobustError(
            f"'{out}' holds something else than a built site, which would be lost; choose a new or "
            "empty folder with --out"
        )


def replace_site(out: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write the files to a new folder, then let it take the place of ``out``.

    Raises:
        GenrobustError: it cannot be written; ``out`` is as it was.
    """
    out = out.absolute()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as problem:
        raise _unwritable(out, problem) from problem
    try:
        write_files(staged / "new", files)
        _swap(staged / "new", out, staged / "old")
    except OSError as problem:
        raise _unwritable(out, problem) from problem
    finally:  # also after an interrupt
        shutil.rmtree(staged, ignore_errors=True)


def write_files(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a site into a new folder."""
    folder.mkdir()
    for name, content in [(MARKER, b""), *files]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _swap(new: Path, out: Path, old: Path) -> None:
    """Two renames; if the second fails, the first is undone."""
    before = out.exists()
    if before:
        os.replace(out, old)  # noqa: PTH105
    try:
        os.replace(new, out)  # noqa: PTH105
    except OSError:
        if before:
            os.replace(old, out)  # noqa: PTH105
        raise


def _suite(one: Contender) -> tuple[str, int]:
    return one.record.suite.name, one.record.suite.version


def _unwritable(out: Path, problem: OSError) -> GenrobustError:
    return GenrobustError(
        f"cannot write the site to '{out}' ({problem.strerror or problem}); choose a folder with "
        "--out that can be written to and has space left"
    )
