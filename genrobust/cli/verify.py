"""The work of ``genrobust verify``."""

from __future__ import annotations

import json
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from genrobust import files
from genrobust.cli.progress import progress
from genrobust.cli.streams import console
from genrobust.errors import GenrobustError, GenrobustWarning, one_line
from genrobust.evidence.checks import is_trouble
from genrobust.evidence.entry import Verification
from genrobust.verify.subject import ENTRY, find_subjects
from genrobust.verify.verify import (
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
        0 if all passed, 1 if one failed; else 2 if one could not be told, 3 if that was a bug.
    """
    if not path.exists():
        verify(path, options)  # which says so
    found: dict[str, Any] = {}
    ends: list[int] = []
    places = find_subjects(path)
    for place in places:
        try:
            verified = _verified(place, options)
        except Exception as problem:
            if len(places) == 1:
                raise
            ends.append(_not_verified(place, problem))
            continue
        found[str(place)] = verified.verification.model_dump(mode="json")
        print_verification(place, verified)
        _keep(place, verified)
    if out is not None:
        files.write_text(out, json.dumps(found, indent=1) + "\n")
    failed = sum(not one["passed"] for one in found.values())
    if len(places) > 1:
        print(f"{len(found) - failed} passed, {failed} failed, {len(ends)} not verified")
    return 1 if failed else max(ends, default=0)


def _verified(place: Path, options: VerifyOptions) -> Verified:
    with progress(str(place)) as advance:
        return verify(place, options, on_progress=advance)


def _keep(place: Path, verified: Verified) -> None:
    """Write beside an entry what was found; where that cannot be, it is a verdict all the same."""
    if not (place / ENTRY).exists():
        return
    try:
        write_verification(verified, place)
    except GenrobustError as problem:
        reason = str(problem).rpartition("; ")[0]
        warnings.warn(
            f"{reason}, so that no badge is kept there; --json FILE keeps the result elsewhere",
            GenrobustWarning,
            stacklevel=2,
        )


def _not_verified(place: Path, problem: Exception) -> int:
    """Say what kept one of several from being verified, which is no verdict on it.

    Returns:
        How a command ends by it: 2 where it is the user's or the machine's trouble, 3 for a bug.
    """
    known = isinstance(problem, GenrobustError) or is_trouble(problem)
    words = f"{type(problem).__name__}: {problem}".removesuffix(": ")
    reason = str(problem) if isinstance(problem, GenrobustError) else words
    console(highlight=False).print(
        Text(f"{one_line(str(place))}: not verified\n  {one_line(reason)}\n")
    )
    if known:
        return 2
    traceback.print_exception(problem)
    return 3


def print_verification(place: Path, verified: Verified) -> None:
    """The checks, and what they prove."""
    found, screen = verified.verification, console(highlight=False)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in found.checks:
        mark = Text("passed", "green") if check.passed else Text("FAILED", "bold red")
        table.add_row(mark, check.name, Text(one_line(check.detail)))
    screen.print(Text(one_line(str(place)), "bold"), table)
    screen.print(Text(_verdict(found), "green" if found.passed else "bold red"))
    if found.passed:
        for depth in DEPTHS[: DEPTHS.index(found.depth) + 1]:
            screen.print(Text(f"{depth} proves that {PROVES[depth]}."))


def _verdict(found: Verification) -> str:
    if found.passed:
        return f"passed, as deep as {found.depth}, in {found.seconds:.1f} s"
    return f"FAILED: {one_line(_first_reason(found.checks))}"


def _first_reason(checks: Sequence[Any]) -> str:
    return next(check.detail for check in checks if not check.passed)
