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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from genrobust import files
from genrobust.errors import GenrobustError
from genrobust.leaderboard.entry import Depth

#: The files of an entry. verification.json is written by who verifies.
FILES = (
    *("entry.json", "record.json", "outcomes.json", "evidence.zip", "verification.json"),
    *("thumbnails.png", "traversals.png"),
)

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
        problems: what is not an entry's file, in sentences.
        notes: what a reviewer should know.
    """

    entries: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Verified:
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
    before, after = _plain_files(base), _plain_files(head)
    changed = [place for place in sorted(after) if not _same(before.get(place), after[place])]
    if len(changed) > MAX_CHANGES:
        raise GenrobustError(
            f"the pull request changes {len(changed)} files and {MAX_CHANGES} are allowed; submit "
            "fewer entries at once"
        )
    problems = [f"{_shown(place)} is removed" for place in sorted(before.keys() - after.keys())]
    notes, entries = [], {}
    for place in changed:
        found = _PLACE.fullmatch(place)
        problem = _problem(found, after[place])
        if found is None or problem:
            problems.append(f"{_shown(place)} {problem}")
        else:
            entries[found["entry"]] = found["model"]
            if found["file"] == "verification.json":
                notes.append(f"{place} is the submitter's own, and was left out")
    if len(entries) > MAX_ENTRIES:
        raise GenrobustError(
            f"the pull request changes {len(entries)} entries and {MAX_ENTRIES} are allowed; "
            "submit fewer at once"
        )
    for place, source in after.items():
        found = _PLACE.fullmatch(place)
        if found and found["model"] in entries.values() and not _problem(found, source):
            if place not in changed or found["file"] != "verification.json":
                files.write_bytes(data / place, source.read_bytes())
    return Changes(tuple(sorted(entries)), tuple(problems), tuple(notes))
