"""What a verification is made of: checks, and the two ways in which one does not pass.

A step that raises :class:`RejectionError` has found a claim that does not hold, which is a verdict
on what was submitted. Anything else that is raised, a GenrobustError above all, says that it cannot
be told: an option is wrong, the data set or a plugin is not here, memory or disk is full. That is
never a verdict, and ends the verification.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from genrobust._version import __version__
from genrobust.errors import GenrobustError, is_out_of_memory
from genrobust.evidence.entry import Check
from genrobust.files import UnfitError

#: A name, and a function that says what it compared or raises RejectionError.
NamedCheck = tuple[str, Callable[[], str]]


class RejectionError(Exception):
    """A claim does not hold: the reason, in a sentence."""


class UntoldError(GenrobustError):
    """What was submitted may be sound, but this version of genrobust cannot tell."""


def run_checks(checks: Iterable[NamedCheck]) -> list[Check]:
    """Every check's result; one that is rejected does not keep the next from being tried."""
    found = []
    for name, check in checks:
        try:
            found.append(Check(name=name, passed=True, detail=check()))
        except RejectionError as problem:
            found.append(Check(name=name, passed=False, detail=str(problem)))
    return found


@contextmanager
def rejecting() -> Iterator[None]:
    """Within it only what was submitted is looked at, so that errors are the submission's fault.

    Not so the machine's own trouble, which can strike anywhere, and what only another version of
    genrobust could tell.
    """
    try:
        yield
    except UntoldError:
        raise
    except GenrobustError as problem:
        if is_trouble(problem):
            raise
        raise RejectionError(str(problem)) from problem


def is_trouble(problem: BaseException) -> bool:
    """Whether the machine is behind an error: no memory, or a file that cannot be read.

    Example:
        >>> is_trouble(MemoryError()), is_trouble(PermissionError()), is_trouble(ValueError())
        (True, True, False)
    """
    cause: BaseException | None = problem
    while cause is not None:
        if isinstance(cause, UnfitError):
            return False
        if isinstance(cause, OSError) or is_out_of_memory(cause):
            return True
        cause = cause.__cause__
    return False


def written_by_another(version: str) -> str | None:
    """What to do where a submission of another version does not fit this one; None for this one."""
    if version == __version__:
        return None
    return f"it was written by genrobust {version}, and this is {__version__}: install that version"
