"""The two kinds of trouble a user meets: an error that ends the command, a warning that does not.

Everything else that is raised is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
import errno
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args


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


#: The most that is quoted of what follows a heading.
QUOTED = 200
#: Stands before the calls that led to an error where TorchScript or a worker quotes it.
_TRACEBACK = re.compile(r"^.*Traceback .*\(most recent call last\):$", re.MULTILINE)


#: What is to be written where pydantic asks for a type of Python's.
_WANTED = {
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "keys with their values",
    "model_type": "keys with their values",
}


def telling(words: str) -> str:
    """What an error says went wrong, in a line: its first, and the next where that is a heading.

    Of a quoted traceback it is what the calls led to.

    >>> telling("Error(s) in loading state_dict for VAE:\\n\\tsize mismatch for weight")
    'Error(s) in loading state_dict for VAE: size mismatch for weight'
    """
    if quoted := [*_TRACEBACK.finditer(words)]:
        below = words[quoted[-1].end() :].splitlines()
        words = "\n".join(line for line in below if not line[:1].isspace()) or words
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    told = lines[:1]
    for line in lines[1:]:
        if not told[-1].endswith(":"):
            break
        told.append(line if len(line) <= QUOTED else f"{line[:QUOTED]}...")
    return " ".join(told)


def in_a_line(problem: BaseException, model: type | None = None) -> str:
    """What went wrong, in a line: of data that does not fit its model, the first place and why.

    Args:
        problem: what was raised.
        model: that the data was to fit, whose keys are named where the data has another.

    >>> in_a_line(FileNotFoundError(2, "No such file or directory")), in_a_line(KeyError())
    ('No such file or directory', 'KeyError')
    """
    if callable(errors := getattr(problem, "errors", None)):  # pydantic's ValidationError
        first = errors()[0]
        *above, last = first["loc"] or ("the file",)
        if first["type"] == "extra_forbidden" and (known := _keys_at(model, above)):
            said = str(unknown_name("key", str(last), known))
        else:
            above, said = [*above, last], _said(first)[:QUOTED]
        return f"{'.'.join(map(str, above))[:120]}: {said}" if above else said
    words = (problem.strerror if isinstance(problem, OSError) else None) or str(problem)
    return telling(words) or type(problem).__name__


def _said(error: Mapping[str, Any]) -> str:
    """What pydantic says of a place, in words of what is to be written there."""
    wanted = _WANTED.get(error["type"])
    if wanted is not None:
        return f"give {wanted}, not {reprlib.repr(error['input'])}"
    if error["type"] == "extra_forbidden":
        return "there is no such key"
    return str(error["msg"]).removeprefix("Value error, ")


def _keys_at(model: type | None, place: Iterable[object]) -> list[str]:
    """The keys that a model, or what it holds at a place, may have."""
    there = [*_models_in(model)]
    for part in place:
        held = [one.model_fields[part] for one in there if part in one.model_fields]
        there = [kind for field in held for kind in _models_in(field.annotation)] or there
    return [key for one in there for key in one.model_fields]


def _models_in(hint: Any) -> Iterator[Any]:
    """The models among what a type is made of."""
    if hasattr(hint, "model_fields"):
        yield hint
    for inner in get_args(hint):
        yield from _models_in(inner)


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether memory ran out: Python's, numpy's, torch's on any device, the system's.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes differ"))
    (True, False)
    """
    kinds = {kind.__name__ for kind in type(problem).__mro__}  # torch may not be imported
    words = str(problem).lower() if isinstance(problem, RuntimeError) else ""
    of_the_system = isinstance(problem, OSError) and problem.errno == errno.ENOMEM
    by_kind = bool(kinds & {"MemoryError", "OutOfMemoryError"})
    return by_kind or of_the_system or any(mark in words for mark in _NO_MEMORY)


#: How torch says so where its exception does not: its allocators, CUDA's libraries; and Python, of
#: a thread's stack.
_NO_MEMORY = (
    "alloc",
    "out of memory",
    "storage size calculation overflowed",
    "can't start new thread",
)


def ran_out_of_memory(problem: BaseException | None) -> bool:
    """Whether that is what an error, or one that it came from, says."""
    while problem is not None and not is_out_of_memory(problem):
        problem = problem.__cause__
    return problem is not None


def one_line(text: str) -> str:
    r"""The text with what would break the line, or what a terminal obeys, escaped.

    >>> one_line("no file 'a\nb'")
    "no file 'a\\nb'"
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def a_few(items: Sequence[object], most: int = 3) -> str:
    """The first of several in words, and how many more there are.

    >>> a_few([1, 2, 3]), a_few("abcde")
    ('1, 2, 3', 'a, b, c and 2 more')
    """
    words = ", ".join(map(str, items[:most]))
    return words if len(items) <= most else f"{words} and {len(items) - most} more"


def unknown_name(kind: str, given: str, allowed: Iterable[str]) -> GenrobustError:
    """The error for a name that is not registered, with the nearest names that are.

    >>> print(unknown_name("attack", "latnet", ["latent", "output"]))
    unknown attack 'latnet'; did you mean 'latent'? Known: latent, output
    """
    names = sorted(allowed)
    hint = did_you_mean(given, names)
    words = f"{hint} Known" if hint else " known"
    return GenrobustError(f"unknown {kind} '{given}';{words}: {', '.join(names) or 'none'}")


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """A question, with a blank before it, after the name that is nearest; "" where none is near.

    >>> did_you_mean("stps", ["steps", "restarts"]), did_you_mean("stps", [])
    (" did you mean 'steps'?", '')
    """
    by_letters = {name.lower(): name for name in allowed}
    near = difflib.get_close_matches(given.lower(), by_letters, n=1, cutoff=0.5)
    return f" did you mean '{by_letters[near[0]]}'?" if near else ""
