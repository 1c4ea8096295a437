"""What the workflow does with a pull request: its entries are copied as data, and verified.

Nothing of the pull request is imported or run. Each entry is verified by a process of its own, so
that one that crashes or hangs it fails alone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from genrobust import files
from genrobust.errors import GenrobustError
from genrobust.evidence.entry import Depth

#: Written by who verifies.
VERIFICATION = "verification.json"

#: The files of an entry.
FILES = (
    *("entry.json", "record.json", "outcomes.json", "evidence.zip", VERIFICATION),
    *("thumbnails.png", "traversals.png"),
)

#: The part of a fingerprint that is shown.
_HASH = re.compile(r"[0-9a-f]{12}")
_SLUG = r"[a-z0-9]+(?:-[a-z0-9]+)*"
_PLACE = re.compile(
    rf"(?P<entry>(?P<model>[a-z0-9][a-z0-9_-]*-v[0-9]+/{_SLUG})(?:/attacks/{_SLUG})?)/(?P<file>[^/]+)"
)

MAX_FILE_BYTES = 100 << 20
MAX_CHANGES = 200
MAX_ENTRIES = 20
#: Characters of what a verification printed that are kept, from its end.
MAX_OUTPUT = 8_000

Run = Callable[[Sequence[str], float], "tuple[bool, str]"]


@dataclass(frozen=True)
class Changes:
    """What a pull request changes below the entries.

    Args:
        entries: folders of the entries that are new or changed.
        problems: what a pull request may not bring, in sentences.
        notes: what a reviewer should know.
    """

    entries: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Checked:
    """An entry, whether it passed, and what the verification printed."""

    path: str
    passed: bool
    output: str


def collect(base: Path, head: Path, data: Path) -> Changes:
    """Copy the entries that a pull request changes, as plain files, with the model they belong to.

    Args:
        base: the entries before it.
        head: the entries with it; links in it are not followed.
        data: a new folder to copy to.

    Raises:
        GenrobustError: it changes too much at once.
    """
    before, after = _files_below(base), _files_below(head)
    changed = [place for place in sorted(after) if not _same(before.get(place), after[place])]
    removed = sorted(before.keys() - after.keys())
    if len(changed) + len(removed) > MAX_CHANGES:
        raise GenrobustError(
            f"the pull request changes {len(changed) + len(removed)} files and {MAX_CHANGES} are "
            "allowed; submit fewer entries at once"
        )
    refused = {place: _problem(place, after[place]) for place in changed}
    problems = [f"{_shown(place)} {why}" for place, why in refused.items() if why]
    problems += [f"{_shown(place)} is removed" for place in removed]
    good = [
        found for place, why in refused.items() if not why and (found := _PLACE.fullmatch(place))
    ]
    entries = sorted({found["entry"] for found in good})
    if len(entries) > MAX_ENTRIES:
        raise GenrobustError(
            f"the pull request changes {len(entries)} entries and {MAX_ENTRIES} are allowed; "
            "submit fewer at once"
        )
    own = [found[0] for found in good if found["file"] == VERIFICATION]
    problems += [
        f"{_shown(place)} is written on the main branch, after a verification there; leave it out"
        for place in own
    ]
    models = {found["model"] for found in good}
    for place, source in after.items():
        found = _PLACE.fullmatch(place)
        if found and found["model"] in models and place not in own and not _problem(place, source):
            files.write_bytes(data / place, source.read_bytes())
    notes = tuple(_told_apart(entry, before, after) for entry in entries)
    return Changes(tuple(entries), tuple(problems), notes)


def _told_apart(entry: str, before: Mapping[str, Path], after: Mapping[str, Path]) -> str:
    """Whether an entry is new, or what is in its place, and by which models' fingerprints."""
    old, new = (_fingerprint(files.get(f"{entry}/entry.json")) for files in (before, after))
    also = _also_of(entry, after)
    if f"{entry}/entry.json" not in before:
        return f"{entry} is new, of model {new}{also}"
    same = "of the same model" if old == new else "OF ANOTHER MODEL"
    return f"{entry} is changed, {same}: its fingerprint was {old} and is {new}{also}"


def _also_of(entry: str, after: Mapping[str, Path]) -> str:
    """Which other entry of the board has that model: only the lower of two is ranked."""
    board, _, slug = entry.partition("/")
    own = _fingerprint(after.get(f"{entry}/entry.json"))
    if "/" in slug or not _HASH.fullmatch(own):  # an attack is on the model that it lies with
        return ""
    for place, path in sorted(after.items()):
        found = _PLACE.fullmatch(place)
        other = found["entry"] if found and found["file"] == "entry.json" else entry
        same_board = other.partition("/")[0] == board and other.count("/") == 1
        if other != entry and same_board and _fingerprint(path) == own:
            return f", AS IS {other}: of one model the lower entry is ranked"
    return ""


def _fingerprint(path: Path | None) -> str:
    """What an entry says of its model, as far as it can be read."""
    try:
        assert path is not None
        assert _is_plain(path)
        assert path.stat().st_size <= MAX_FILE_BYTES
        found = json.loads(path.read_bytes())["fingerprint"]
        return found[:12] if re.fullmatch(r"[0-9a-f]{64}", found) else "that is none"
    except (AssertionError, OSError, ValueError, TypeError, KeyError, RecursionError):
        return "that cannot be read"


def verify_all(
    data: Path, entries: Sequence[str], depth: Depth, seconds: float, run: Run
) -> tuple[Checked, ...]:
    """Verify each entry below ``data`` by the command, for at most ``seconds`` each."""
    results = []
    for entry in entries:
        command = [*_GENROBUST, "verify", str(data / entry), "--depth", depth]
        passed, output = run(command, seconds)
        results.append(Checked(entry, passed, output[-MAX_OUTPUT:]))
    return tuple(results)


def run_command(command: Sequence[str], seconds: float) -> tuple[bool, str]:
    """Whether a command ends well in time, and what it prints."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return False, f"the verification did not end within {seconds:g} seconds"
    crashed = f"\nthe verification ended with code {done.returncode}" if done.returncode else ""
    return done.returncode == 0, done.stdout + crashed


def result_of(changes: Changes, verified: Sequence[Checked], depth: Depth) -> bytes:
    """What :func:`comment.comment_of` reads."""
    result = {
        "schema_version": 1,
        "depth": depth,
        "entries": [asdict(entry) for entry in verified],
        "problems": list(changes.problems),
        "notes": list(changes.notes),
    }
    return json.dumps(result, ensure_ascii=False).encode("utf-8", "replace")


def main(arguments: Sequence[str] | None = None, run: Run = run_command) -> int:
    """Verify what a pull request changes below leaderboard/entries, and write the result."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--base", type=Path, required=True, help="the entries before it")
    parser.add_argument("--head", type=Path, required=True, help="the entries with it")
    parser.add_argument("--data", type=Path, required=True, help="a new folder to copy them to")
    parser.add_argument("--depth", choices=get_args(Depth), default="replay")
    parser.add_argument("--seconds", type=float, default=1200, help="for each entry")
    parser.add_argument("--out", type=Path, required=True, help="the result")
    given = parser.parse_args(arguments)
    try:
        changes = collect(given.base, given.head, given.data)
    except GenrobustError as problem:
        changes = Changes((), (str(problem),), ())
    verified = verify_all(given.data, changes.entries, given.depth, given.seconds, run)
    content = result_of(changes, verified, given.depth)
    files.write_bytes(given.out, content)
    print(content.decode())
    return 0 if not changes.problems and all(entry.passed for entry in verified) else 1


#: Isolated (-I), so that nothing is imported from the folder it runs in.
_GENROBUST = (sys.executable, "-I", "-m", "genrobust")


def _files_below(root: Path) -> dict[str, Path]:
    """All that is no folder, by its path below ``root``; links are not followed."""
    found = {}
    for folder, folders, names in os.walk(root, followlinks=False):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for path in (Path(folder) / name for name in (*names, *links)):
            found[path.relative_to(root).as_posix()] = path
    return found


def _same(before: Path | None, after: Path) -> bool:
    if before is None or not (_is_plain(before) and _is_plain(after)):
        return False
    return before.stat().st_size == after.stat().st_size and (
        before.read_bytes() == after.read_bytes()
    )


def _is_plain(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def _problem(place: str, path: Path) -> str:
    """Why a file is not taken; empty if it is."""
    found = _PLACE.fullmatch(place)
    if found is None or found["file"] not in FILES:
        return f"is no file of an entry; these are SUITE-vVERSION/SLUG/ with {', '.join(FILES)}"
    if not _is_plain(path):
        return "is a link or a device; put the file itself there"
    if path.stat().st_size > MAX_FILE_BYTES:
        return f"has {path.stat().st_size} bytes; {MAX_FILE_BYTES} are allowed"
    return ""


def _shown(place: str) -> str:
    return ascii(place[:200])


if __name__ == "__main__":
    sys.exit(main())
