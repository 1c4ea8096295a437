"""How a command ends: a user's mistake with one sentence and 2, Ctrl-C with 130."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from genrobust.errors import GenrobustError, GenrobustWarning

P = ParamSpec("P")
R = TypeVar("R")


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator for a command's function."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        warnings.simplefilter("always", GenrobustWarning)
        warnings.showwarning = _show_warning
        try:
            return function(*args, **kwargs)
        except GenrobustError as problem:
            print(f"Error: {problem}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("\nStopped. The same command goes on from here.", file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
            # Not sys.exit: it would wait for the attacks that still run in other threads. Files
            # are written atomically, so leaving at once loses nothing but their work.
            os._exit(130)

    return run


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    if issubclass(category, GenrobustWarning):
        print(f"Warning: {message}", file=sys.stderr)
