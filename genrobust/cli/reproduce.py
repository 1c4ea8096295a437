"""The work of ``genrobust reproduce``."""

from __future__ import annotations

import sys

from genrobust.reproduce import PUBLICATIONS, Setup, reproduce


def print_publications() -> None:
    """A name and what it is on each line."""
    width = max(map(len, PUBLICATIONS.names()))
    lines = []
    for name in PUBLICATIONS.names():
        words = (PUBLICATIONS.get(name).__doc__ or "").strip().splitlines()
        lines.append(f"{name:<{width}}  {words[0] if words else ''}".rstrip())
    print("\n".join(lines))


def reproduce_one(name: str, setup: Setup) -> None:
    """Measure, write, and print published beside measured."""
    command = f"genrobust reproduce {name}"
    for option, given in (
        ("--data-root FOLDER", setup.data_root),
        ("--checkpoints FOLDER", setup.checkpoints),
        ("--reference FOLDER", setup.reference),
        (f"--sources {setup.sources}", setup.sources),
        ("--fast", setup.fast),
        (f"--seed {setup.seed}", setup.seed),
    ):
        command += f" {option}" if given else ""
    found = reproduce(name, setup, command)
    print(f"{found.title}\n\n{found.summary}")
    print(setup.out / f"{name}.md", file=sys.stderr)
