"""The work of ``genrobust verify``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from genrobust import files
from genrobust.cli.progress import progress
from genrobust.errors import GenrobustError
from genrobust.leaderboard.entry import Verification
from genrobust.leaderboard.subject import find_subjects
from genrobust.leaderboard.verify import (
    DEPTHS,
    PROVES,
    Verified,
    VerifyOptions,
    verify,
    write_verification,
)


def verify_all(path: Path, options: VerifyOptions, out: Path | None) -> int:
    """Verify what lies at a path, print what came out, and say how it ends.

    Returns:
        0 if all passed, 1 if one failed, 2 if none failed but one could not be told.
    """
    if not path.exists():
        verify(path, options)  # which says so
    found: dict[str, Any] = {}
    unknown: list[GenrobustError] = []
    places = find_subjects(path)
    for place in places:
        try:
            with progress(str(place)) as advance:
                verified = verify(place, options, on_progress=advance)
        except GenrobustError as problem:
            if len(places) == 1:
                raise
            Console().print(Text(f"{place}: not verified\n  {problem}\n"))
            unknown.append(problem)
            continue
        if place.is_dir():
            write_verification(verified, place)
        found[str(place)] = verified.verification.model_dump(mode="json")
        print_verification(place, verified)
    if out is not None:
        files.write_text(out, json.dumps(found, indent=1) + "\n")
    failed = sum(not one["passed"] for one in found.values())
    if len(places) > 1:
        print(f"{len(found) - failed} passed, {failed} failed, {len(unknown)} not verified")
    return 1 if failed else 2 if unknown else 0


def print_verification(place: Path, verified: Verified) -> None:
    """The checks, and what they prove."""
    found, console = verified.verification, Console(highlight=False)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in found.checks:
        mark = Text("passed", "green") if check.passed else Text("FAILED", "bold red")
        table.add_row(mark, check.name, Text(_printable(check.detail)))
    console.print(Text(str(place), "bold"), table)
    console.print(Text(_verdict(found), "green" if found.passed else "bold red"))
    if found.passed:
        for depth in DEPTHS[: DEPTHS.index(found.depth) + 1]:
            console.print(Text(f"{depth} proves that {PROVES[depth]}."))


def _verdict(found: Verification) -> str:
    if found.passed:
        return f"passed, as deep as {found.depth}, in {found.seconds:.1f} s"
    return f"FAILED: {_printable(_first_reason(found.checks))}"


def _first_reason(checks: Sequence[Any]) -> str:
    return next(check.detail for check in checks if not check.passed)


def _printable(text: str) -> str:
    """Without what a terminal would obey: details may quote what was submitted."""
    return "".join(c if c.isprintable() else "?" for c in text)
