"""One thing after the other that is verified: what it is called, and what it showed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from genrobust.leaderboard.entry import Check

#: A name, and a function that says what it compared or raises RejectionError.
Step = tuple[str, Callable[[], str]]


class RejectionError(Exception):
    """A claim does not hold: the reason, in a sentence."""


def run_steps(steps: Iterable[Step]) -> list[Check]:
    """Every step's result; one that is rejected does not keep the next from being tried."""
    found = []
    for name, check in steps:
        try:
            found.append(Check(name=name, passed=True, detail=check()))
        except RejectionError as problem:
            found.append(Check(name=name, passed=False, detail=str(problem)))
    return found
