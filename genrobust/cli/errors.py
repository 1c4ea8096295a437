"""How a command ends.

0: it did what it was asked. 1: ``verify`` found what does not hold. 2: a mistake of the user's,
too little memory, or words that could not be written, in one sentence. 3: a bug of ours, with its
traceback. 130: Ctrl-C.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, ParamSpec, TypeVar

import typer

from genrobust.cli import interrupt
from genrobust.cli.streams import require_written
from genrobust.errors import GenrobustError, GenrobustWarning, is_out_of_memory, one_line

P = ParamSpec("P")
R = TypeVar("R")

MISTAKE, BUG, INTERRUPTED = 2, 3, 130

#: What is true of a stopped command that says nothing else.
ANEW = "The same command starts anew."
GOES_ON = "The same command goes on from here."

#: What lowers the memory that a command takes, by the parameter of the command's function.
_LOWERS = {
    "workers": "--workers 1",
    "limit": "a smaller --limit",
    "batch_size": "a smaller --batch-size",
    "share": "a smaller --share",
    "change": "a smaller batch_size or network with --set",
}


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator for a command's function: whatever it raises ends the command as said above."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with warnings.catch_warnings(), interrupt.heard(), _no_way_past() as leave:
            warnings.simplefilter("always", GenrobustWarning)
            warnings.showwarning = _each_once()
            try:
                with if_stopped(ANEW):
                    found = function(*args, **kwargs)
                    require_written()
                    return found
            except (typer.Exit, typer.Abort):  # a question that was answered with no
                raise
            except GenrobustError as problem:
                _end(MISTAKE, f"Error: {one_line(str(problem))}")
            except KeyboardInterrupt as problem:
                _leave(problem, leave)
            except SystemExit as problem:
                _end(MISTAKE, f"Error: {_who_ended(problem)}")
            except BaseException as problem:
                if is_out_of_memory(problem):
                    reason = one_line(str(problem).strip().partition("\n")[0])
                    _end(
                        MISTAKE,
                        f"Error: there is too little memory{f' ({reason})' if reason else ''}; "
                        f"{_lower_by(function)}",
                    )
                traceback.print_exc(file=sys.stderr)
                _end(BUG, "This is a bug in genrobust: please report it with the lines above.")

    return run


@contextmanager
def if_stopped(then: str) -> Iterator[None]:
    """What is true if the block is stopped by Ctrl-C, in a sentence, unless a block in it says.

    What else is raised after it, is its doing.
    """
    try:
        yield
    except BaseException as stop:
        if isinstance(stop, KeyboardInterrupt):
            raise KeyboardInterrupt(str(stop) or then) from stop
        if interrupt.asked():
            raise KeyboardInterrupt(then) from stop
        raise


def _lower_by(function: Callable[..., object]) -> str:
    known = inspect.signature(function).parameters
    ways = [way for name, way in _LOWERS.items() if name in known]
    if not ways:
        return "free some, or use a machine that has more"
    return f"give {' or '.join(ways)}, or use a machine that has more"


def _who_ended(problem: SystemExit) -> str:
    """Whose code tried to end the command, which only the command may."""
    from genrobust.foreign import explain  # which has torch, as that code has

    return (
        f"code that was run ended the process ({one_line(explain(problem))}); keep such calls "
        "under if __name__ == '__main__':"
    )


def _end(code: int, words: str) -> NoReturn:
    print(words, file=sys.stderr)
    sys.exit(code)


def _leave(problem: KeyboardInterrupt, leave: Callable[[int], NoReturn]) -> NoReturn:
    print(f"\nStopped. {problem}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: it would wait for the attacks that still run in other threads. Files are
    # written atomically, so leaving at once loses nothing but their work.
    leave(INTERRUPTED)


@contextmanager
def _no_way_past() -> Iterator[Callable[[int], NoReturn]]:
    """Code that is run cannot end the command by ``os._exit`` as if all were well; we still can."""
    here, leave = os.getpid(), os._exit

    def end(status: int) -> NoReturn:
        if os.getpid() == here:
            raise SystemExit(status)
        leave(status)  # a process that it has forked

    vars(os)["_exit"] = end
    try:
        yield leave
    finally:
        vars(os)["_exit"] = leave


def _each_once() -> Callable[..., None]:
    """How a command shows warnings: a judge, say, is loaded for a run, for its record and its page,
    and what is to be known of it is told once."""
    told: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: object) -> None:
        interrupt.heed()  # else what Ctrl-C broke would be told as a fault of its own
        text = one_line(str(message))
        if issubclass(category, GenrobustWarning) and text not in told:
            told.add(text)
            print(f"Warning: {text}", file=sys.stderr)

    return show
