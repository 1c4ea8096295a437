"""The built site: a folder that is whole or not there."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from genrobust.board.board import Board, contender, make_boards
from genrobust.errors import GenrobustError
from genrobust.evidence.entry import Depth
from genrobust.files import temporary_folder, writing
from genrobust.site.pages import render
from genrobust.verify.entries import verified_entries

#: A folder with this file in it may be replaced.
MARKER = ".genrobust-site"


def build(
    entries: Path, out: Path, depth: Depth = "schema", data_root: str | Path | None = None
) -> tuple[Board, ...]:
    """Make the site of the entries below a folder that pass a verification.

    It is written beside ``out`` and then put in its place, so that ``out`` is always a whole site:
    where the system can exchange two folders (Linux, on most file systems) at every instant, else
    but for the one between two renames, after which the next build puts the old site back.
    Equal entries give equal bytes, at the depth ``schema``; a deeper one has a day and seconds.

    Args:
        entries: holds ``SUITE-vVERSION/SLUG/entry.json`` and what belongs to it.
        out: where the site goes; an earlier site there is replaced.
        depth: how deep each entry is verified, as :func:`genrobust.verify.entries.verified_entries`
            says; what does not pass is left out, with a warning.
        data_root: the folder with the data sets, which a deeper one needs.

    Returns:
        The boards that were made.

    Raises:
        GenrobustError: ``entries`` is not there; ``out`` holds something else than a site, or
            cannot be written.
    """
    recover(out)
    refuse_target(out)
    boards = make_boards(map(contender, verified_entries(entries, depth, data_root)))
    replace_site(out, render(boards))
    return boards


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
    with writing(f"the site to '{out}'"):
        out.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(out.parent) as staged:
            write_files(staged / "site", files)
            _put(staged / "site", out)


def recover(out: Path) -> None:
    """Put an old site back that a build, killed in the middle of replacing it, had moved away.

    Raises:
        GenrobustError: it cannot be.
    """
    out = out.absolute()
    old = _old(out)
    with writing(f"the site to '{out}'"):
        if old.is_dir() and not out.exists():
            os.rename(old, out)  # noqa: PTH104
        shutil.rmtree(old, ignore_errors=True)


def write_files(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a site into a new folder."""
    folder.mkdir()
    for name, content in [(MARKER, b""), *files]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _put(new: Path, out: Path) -> None:
    """Let a site take the place of what is there, which then is where the new one was."""
    if not out.exists():
        os.rename(new, out)  # noqa: PTH104
    elif not _exchange(new, out):
        _rename_twice(new, out)


def _exchange(first: Path, second: Path) -> bool:
    """Let two folders change places at once (renameat2); False where that cannot be done."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # a C library without it
        return False
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of the kernel's headers
    return rename(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0


def _rename_twice(new: Path, out: Path) -> None:
    """If the second rename fails, the first is undone; if it never comes, by :func:`recover`."""
    old = _old(out)
    os.rename(out, old)  # noqa: PTH104
    try:
        os.rename(new, out)  # noqa: PTH104
    except OSError:
        os.rename(old, out)  # noqa: PTH104
        raise
    shutil.rmtree(old, ignore_errors=True)


def _old(out: Path) -> Path:
    """Where a site is while another takes its place."""
    return out.with_name(f".{out.name}.old")
