"""The work of ``genrobust reproduce``."""

from __future__ import annotations

import sys

from genrobust.cli.streams import print_result
from genrobust.reproduce import PUBLICATIONS, Setting, reproduce


def print_publications() -> None:
    """A name and what it is on each line."""
    width = max(map(len, PUBLICATIONS.names()))
    lines = []
    for name in PUBLICATIONS.names():
        words = (PUBLICATIONS.get(name).__doc__ or "").strip().splitlines()
        lines.append(f"{name:<{width}}  {words[0] if words else ''}".rstrip())
    print_result("\n".join(lines))


def reproduce_one(name: str, setting: Setting) -> None:
    """Measure, write, and print published beside measured."""
    command = f"genrobust reproduce {name}"
    for option, given in (
        ("--data-root FOLDER", setting.data_root),
        ("--checkpoints FOLDER", setting.checkpoints),
        ("--reference FOLDER", setting.reference),
        (f"--sources {setting.sources}", setting.sources),
        ("--fast", setting.fast),
        (f"--seed {setting.seed}", setting.seed),
    ):
        command += f" {option}" if given else ""
    found = reproduce(name, setting, command)
    print(f"{found.title}\n\n{found.summary}")
    print(setting.out / f"{name}.md", file=sys.stderr)
