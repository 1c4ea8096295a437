"""The two kinds of trouble a user meets: an error that ends the command, a warning that does not.

Everything else that is raised is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GenrobustError(Exception):
    """A mistake of the user's: one sentence with what was given, what is allowed, what to do.

    The command line prints it without a traceback and exits with code 2.

    Example:
        >>> import genrobust
        >>> try:
        ...     genrobust.load_model("jointvea")
        ... except genrobust.GenrobustError as mistake:
        ...     print(str(mistake).split("?")[0])
        unknown model 'jointvea'; did you mean 'jointvae'
    """


class GenrobustWarning(UserWarning):
    """Something was set right without the user: a corrupt shard recomputed, a plugin left out."""


def in_a_line(problem: BaseException) -> str:
    """What went wrong, in a line: of data that does not fit its model, the first place and why.

    >>> in_a_line(FileNotFoundError(2, "No such file or directory")), in_a_line(KeyError())
    ('No such file or directory', 'KeyError')
    """
    if callable(errors := getattr(problem, "errors", None)):  # pydantic's ValidationError
        first = errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        return f"{where[:120]}: {first['msg'][:200]}"
    words = (problem.strerror if isinstance(problem, OSError) else None) or str(problem)
    return (words.splitlines() or [type(problem).__name__])[0]


def unknown_name(kind: str, given: str, allowed: Iterable[str]) -> GenrobustError:
    """The error for a name that is not registered, with the nearest names that are.

    >>> print(unknown_name("attack", "latnet", ["latent", "output"]))
    unknown attack 'latnet'; did you mean 'latent'? Known: latent, output
    """
    names = sorted(allowed)
    by_letters = {name.lower(): name for name in names}
    near = difflib.get_close_matches(given.lower(), by_letters, n=1, cutoff=0.5)
    hint = f"did you mean '{by_letters[near[0]]}'? Known" if near else "known"
    return GenrobustError(f"unknown {kind} '{given}'; {hint}: {', '.join(names) or 'none'}")
