"""What a killed process leaves: a whole site, and nothing that the next command does not remove."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from evidence_runs import BOARD, submitted

from genrobust import files
from genrobust.board.submit import _stage
from genrobust.site import build as building
from genrobust.site import serve as serving
from genrobust.site.build import MARKER, replace_site

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

OLD = [("index.html", b"old"), ("board/index.html", b"old"), ("board/board.csv", b"old")]
NEW = [("index.html", b"new"), ("board/index.html", b"new"), ("other/index.html", b"new")]
#: What touches the disk, as Python's audit hooks call it.
STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree")


def killed(work: Callable[[], object], step: int) -> bool:
    """Do it in a process that is killed before its ``step``-th step; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = step

        def die(event: str, given: tuple[Any, ...]) -> None:
            nonlocal left
            if event in STEPS:
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(die)
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def kills(work: Callable[[], object], again: Callable[[], None]) -> Iterator[int]:
    """Every step at which the work can be killed, ``again`` made ready before each."""
    for step in range(500):
        again()
        if not killed(work, step):
            assert step > 3, "nothing was done at all"
            return
        yield step
    raise AssertionError("the work never ended")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


SITES = [{MARKER: b"", **dict(OLD)}, {MARKER: b"", **dict(NEW)}]


@pytest.mark.slow
def test_at_every_step_of_a_build_there_is_a_site(tmp_path: Path) -> None:
    """The old one or the new, whole; and the next build leaves nothing else."""
    home = tmp_path / "home"
    out = home / "site"

    def again() -> None:
        shutil.rmtree(home, ignore_errors=True)
        replace_site(out, OLD)

    if not _exchanges(tmp_path):
        pytest.skip("this file system cannot exchange two folders")
    found = []
    for _ in kills(lambda: replace_site(out, NEW), again):
        found.append(tree(out))
        assert tree(out) in SITES
        replace_site(out, NEW)
        assert [path.name for path in home.iterdir()] == ["site"]
    assert SITES[0] in found
    assert SITES[1] in found


@pytest.mark.slow
def test_where_folders_cannot_be_exchanged_the_next_build_puts_the_old_site_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    out = home / "site"
    monkeypatch.setattr(building, "_exchange", lambda new, old: False)

    def again() -> None:
        shutil.rmtree(home, ignore_errors=True)
        replace_site(out, OLD)

    without = 0
    for _ in kills(lambda: replace_site(out, NEW), again):
        without += not out.exists()
        building.recover(out)
        assert tree(out) in SITES
        replace_site(out, NEW)
        building.recover(out)
        assert [path.name for path in home.iterdir()] == ["site"]
    assert without == 1, "between the two renames, and only there"


def test_a_killed_build_is_mended_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "entries").mkdir()
    out = tmp_path / "site"
    replace_site(out, OLD)
    out.rename(building._old(out))
    with pytest.raises(building.GenrobustError, match="there is no folder"):
        building.build(tmp_path / "nowhere", out)
    assert tree(out) == SITES[0]
    building.build(tmp_path / "entries", out)
    assert {path.name for path in tmp_path.iterdir()} == {"entries", "site"}


def test_a_killed_write_leaves_the_old_file_and_the_next_write_nothing_else(
    tmp_path: Path,
) -> None:
    path = tmp_path / "record.json"

    def again() -> None:
        files.write_text(path, "old")

    for _ in kills(lambda: files.write_text(path, "new"), again):
        assert path.read_text() in ("old", "new")
        files.write_text(tmp_path / "another.json", "")
        assert {p.name for p in tmp_path.iterdir()} == {"record.json", "another.json"}


def test_a_killed_submission_leaves_the_entries_and_the_next_removes_its_copies(
    tiny_run: Path, tiny_entry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = tmp_path / "entries"
    shutil.copytree(tiny_entry.parents[1], entries)
    before = tree(entries)

    def die(*given: object, **more: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        monkeypatch.setattr("genrobust.board.submit.verify", die)
        try:
            submitted(entries, tiny_run, "Second")
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert len(list(entries.iterdir())) == 2, "it left its copies"
    with _stage(entries, dry_run=False):
        pass
    assert tree(entries) == before
    assert list(entries.iterdir()) == [entries / BOARD]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_living_process_uses_is_left_to_it(kind: str, tmp_path: Path) -> None:
    """One that is slow, or stopped for a while, still finds what it made."""
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if kind == "folder":
                with files.temporary_folder(tmp_path) as folder:
                    os.write(ready[1], b"x")
                    os.read(go[0], 1)
                    (folder / "site").mkdir()
            else:
                real = os.fsync

                def wait(descriptor: int) -> None:
                    os.write(ready[1], b"x")
                    os.read(go[0], 1)
                    real(descriptor)

                os.fsync = wait
                files.write_text(tmp_path / "mine", "content")
            status = 0
        finally:
            os._exit(status)
    os.close(ready[1])
    os.close(go[0])
    assert os.read(ready[0], 1) == b"x", "it ended before"
    (used,) = tmp_path.iterdir()
    with files.temporary_folder(tmp_path):
        files.write_text(tmp_path / "other", "")
    assert used.exists()
    os.write(go[1], b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    left = {path.name for path in tmp_path.iterdir()}
    assert left == ({"other"} if kind == "folder" else {"other", "mine"})


def test_only_what_has_such_a_name_is_removed(tmp_path: Path) -> None:
    """A user's own files, hidden ones and links that lead elsewhere above all."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("mine")
    home = tmp_path / "home"
    home.mkdir()
    for name in (".genrobust", ".genrobust-site", ".genrobust-abc.tmp", "x.tmp", ".record.json.ab"):
        (home / name).write_text("mine")
    (home / ".genrobust-abcd1234.tmp").symlink_to(mine)
    before = {path.name for path in home.iterdir()}
    files.write_text(home / "record.json", "")
    assert {path.name for path in home.iterdir()} == before | {"record.json"}
    assert (mine / "thesis.tex").exists()


def test_what_a_killed_server_left_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    child = os.fork()
    if child == 0:
        try:
            serving.serve([], 0, lambda url: os.kill(os.getpid(), signal.SIGKILL))
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert len(list(tmp_path.iterdir())) == 1
    with files.temporary_folder():
        pass
    assert list(tmp_path.iterdir()) == []


def _exchanges(folder: Path) -> bool:
    first, second = folder / "first", folder / "second"
    first.mkdir()
    second.mkdir()
    return building._exchange(first, second)


def test_a_folder_that_is_taken_before_it_is_held_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its making and its holding it looks like one that a killed process left."""
    make, made = tempfile.mkdtemp, []

    def mkdtemp(**how: object) -> str:
        folder = make(**how)  # type: ignore[call-overload]
        made.append(folder)
        if len(made) == 1:
            files.sweep(tmp_path)
        return str(folder)

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    with files.temporary_folder(tmp_path) as folder:
        assert [str(folder)] == made[1:]
        assert folder.is_dir()
    assert not list(tmp_path.iterdir())
