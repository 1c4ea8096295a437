"""Calls into the code of plugins: what goes wrong in it is one sentence that names the plugin."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genrobust.errors import GenrobustError, is_out_of_memory
from genrobust.foreign import explain, is_fault, is_foreign

_OURS = Path(__file__).parent


def is_ours(item: object) -> bool:
    """Whether a class, a function, or an object's class comes with genrobust.

    >>> is_ours(GenrobustError), is_ours(GenrobustError("no")), is_ours(explain), is_ours(dict)
    (True, True, True, False)
    """
    return str(getattr(item, "__module__", "")).partition(".")[0] == __name__.partition(".")[0]


@contextmanager
def blamed(who: str, item: object, *, host: bool = False) -> Iterator[None]:
    """What the code of a plugin raises in the block becomes a sentence that names it.

    What comes with genrobust is no plugin: its faults, which are bugs, keep their traceback.

    Args:
        who: the plugin, such as ``"the attack 'mine'"``.
        item: its class, function or object.
        host: whether it has the rest of genrobust called, as an executor has. Then it is to blame
            for what its own code raises, and not for what that calls of genrobust.

    Raises:
        GenrobustError: it raised anything else, or tried to end the process.

    Example:
        >>> class Mine:  # of a plugin
        ...     __module__ = "mine"
        ...
        ...     def half(self):
        ...         return 1 / 0
        >>> with blamed("the norm 'mine'", Mine):
        ...     Mine().half()
        Traceback (most recent call last):
        genrobust.errors.GenrobustError: the norm 'mine' failed (ZeroDivisionError: division by ...
    """
    try:
        yield
    except BaseException as problem:
        if is_ours(item) or not is_fault(problem) or (host and _came_from_us(problem)):
            raise
        advice = "repair or uninstall that plugin"
        if is_out_of_memory(problem):
            advice = "give --workers 1, or lower --batch-size"
        raise GenrobustError(f"{who} failed ({explain(problem)}); {advice}") from problem


def _came_from_us(problem: BaseException) -> bool:
    """Whether the last code that ran, but for Python's and torch's, is genrobust's."""
    for frame in reversed(traceback.extract_tb(problem.__traceback__)):
        if Path(frame.filename).is_relative_to(_OURS):
            return True
        if is_foreign(frame.filename):
            return False
    return False
