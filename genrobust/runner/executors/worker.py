"""The other end of an executor: what a worker does with a task.

``python -m genrobust.runner.executors.worker`` is a worker: it gets tasks on standard input, one a
line, and answers each with a line on standard output. What the model's code prints goes to standard
error; it reads nothing.
"""

from __future__ import annotations

import os
import threading
import traceback
import warnings
from queue import SimpleQueue

from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.runner.task import read_task
from genrobust.suites.suite import Frozen


class _Answer(Frozen):
    """What came of a task: its key, a user's mistake or a bug; and what was warned of."""

    key: str | None = None
    mistake: str | None = None
    bug: str | None = None
    warnings: tuple[str, ...] = ()


def answer(task: str) -> str:
    """Compute a task in this process, and say as JSON what came of it; nothing is raised."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", GenrobustWarning)
        try:
            found = read_task(task)
            found.compute()
            came = _Answer(key=found.key)
        except GenrobustError as problem:
            came = _Answer(mistake=str(problem))
        except BaseException:
            came = _Answer(bug=traceback.format_exc())
    words = tuple(str(one.message) for one in told if issubclass(one.category, GenrobustWarning))
    return came.model_copy(update={"warnings": words}).model_dump_json()


def failed(mistake: str) -> str:
    """The answer of a worker that can give none itself."""
    return _Answer(mistake=mistake).model_dump_json()


def finished(answer: str, said: set[str]) -> str:
    """The key of the task that was computed; what its worker warned of is passed on.

    Args:
        answer: what :func:`answer` gave.
        said: the warnings of other answers, which are not said again.

    Raises:
        GenrobustError: as it was raised in the worker, or the worker ended without an answer.
        RuntimeError: a bug, with the worker's traceback.
    """
    if not answer.strip():
        raise GenrobustError("a worker ended without an answer; see what it said before")
    found = _Answer.model_validate_json(answer)
    for words in found.warnings:
        if words not in said:
            said.add(words)
            warnings.warn(words, GenrobustWarning, stacklevel=2)
    if found.mistake is not None:
        raise GenrobustError(found.mistake)
    if found.key is None:
        raise RuntimeError(f"in a worker:\n{found.bug}")
    return found.key


def main(ends_at_once: bool = False) -> None:
    """Answer until standard input ends.

    With ``ends_at_once`` in the middle of a task too, whose checkpoint is on disk: standard input
    then ends because the process that asked was killed.
    """
    asked = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    tasks: SimpleQueue[str | None] = SimpleQueue()

    def listen() -> None:
        for line in asked:
            tasks.put(line)
        if ends_at_once:
            os._exit(0)
        tasks.put(None)

    threading.Thread(target=listen, daemon=True).start()
    while (task := tasks.get()) is not None:
        print(answer(task), file=answers, flush=True)


if __name__ == "__main__":
    main()
