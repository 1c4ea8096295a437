"""The loops in which work is done: shards by an executor; in threads their rerun, or a replay."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from genrobust.errors import GenrobustError
from genrobust.plugins import blamed
from genrobust.runner.checkpoint import Checkpoint, nowhere
from genrobust.runner.executors.base import EXECUTORS
from genrobust.runner.executors.pool import run_all
from genrobust.runner.pulse import Beat

Item = TypeVar("Item")
Result = TypeVar("Result")


#: Seconds between two looks at what is under way.
LOOK = 0.5


class Progress(Protocol):
    """Called with the shards done, parts of those under way included, and the shards in all.

    Where it is known the note says what is being done.
    """

    def __call__(self, done: float, total: int, note: str = "") -> None: ...


def silent(done: float, total: int, note: str = "") -> None:
    """Say nothing."""


class Work(ABC, Generic[Result]):
    """What an executor has computed, in any process that its text can be sent to."""

    #: Where to compute, in torch's words, and the folder that results go to.
    device: str = "cpu"
    home: Path = Path()

    @property
    @abstractmethod
    def key(self) -> str:
        """Its name."""

    @abstractmethod
    def compute(self, cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Do it, and put the result where :meth:`found` has it.

        Returns:
            Whether it was done: not if ``cancelled`` said so.
        """

    @abstractmethod
    def found(self) -> Result | None:
        """The result, if it is there."""

    def text(self) -> str:
        """What other processes make it from."""
        raise NotImplementedError(f"{type(self).__name__} cannot leave its process")


def results(
    works: Sequence[Work[Result]],
    executor: str,
    workers: int,
    on_progress: Progress = silent,
    under_way: Callable[[], Mapping[str, Beat]] = dict,
) -> Generator[tuple[int, Result], None, None]:
    """Yield number and result of each: first those that are there, then others as they are done.

    None is kept here, so that a run of any length fits in memory.

    Args:
        works: what is to be done.
        executor: by whom, where a result is missing.
        workers: how many at a time.
        on_progress: is told of it.
        under_way: what is under way, by key.

    Raises:
        GenrobustError: one failed, or the executor left one out.
    """
    missing: dict[str, int] = {}
    for number, work in enumerate(works):
        found = work.found()
        if found is None:
            missing[work.key] = number
        else:
            yield number, found
    total = len(works)

    def tell() -> None:
        beats = [beat for key, beat in under_way().items() if key in missing]
        done = total - len(missing) + sum(beat.share for beat in beats)
        on_progress(done, total, *[beat.note for beat in sorted(beats, key=_time)[-1:]])

    tell()
    waiting = [works[number] for number in missing.values()]
    with closing(_done_by(executor, waiting, workers)) as finished, _every(LOOK, tell):
        for key in finished:
            if key in missing and (found := works[missing[key]].found()) is not None:
                yield missing.pop(key), found
            tell()  # here as well, since in this thread it may stop the run
    for key, number in [*missing.items()]:  # a shared folder may show a result late
        if (found := works[number].found()) is not None:
            yield missing.pop(key), found
    tell()
    if missing:
        raise GenrobustError(
            f"{len(missing)} of {total} shards are not there though the executor '{executor}' has "
            "ended; let its workers write to the run's folder, and type the command again"
        )


def _done_by(name: str, works: Sequence[Work[Any]], workers: int) -> Generator[str, None, None]:
    """The key of each work, as an executor has it done.

    Raises:
        GenrobustError: a work failed; the executor, one from outside, did.
    """
    kind, who = EXECUTORS.get(name), f"the executor '{name}'"
    with blamed(who, kind):  # where it takes other arguments too
        found = kind().run(works, workers)
    with blamed(who, kind, host=True):
        if not isinstance(found, Generator):
            raise GenrobustError(
                f"the executor '{name}' gave a {type(found).__name__} by its run(); let it yield "
                "the key of each task once it is done"
            )
        yield from found


def _time(beat: Beat) -> float:
    return beat.time


@contextmanager
def _every(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Act in a thread of its own, again and again, as long as the block lasts."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(seconds):
            act()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def results_of(
    items: Sequence[Item],
    work: Callable[[Item, Checkpoint], Result | None],
    workers: int,
    on_progress: Progress,
) -> list[Result]:
    """What ``work`` gives for live objects, by threads, in the order of the items.

    It is given a checkpoint that keeps nothing: whether to give up, and a pulse to be watched by.

    Raises:
        GenrobustError: memory ran out; and whatever ``work`` raises.
    """
    found: dict[int, Result] = {}
    begun: dict[int, Checkpoint] = {}
    numbers = range(len(items))

    def begin(number: int, cancelled: Callable[[], bool]) -> Result | None:
        begun[number] = nowhere(cancelled)
        return work(items[number], begun[number])

    def tell() -> None:
        beats = [c.pulse.beat() for number, c in sorted(begun.items()) if number not in found]
        notes = [beat.note for beat in beats if beat.note]
        on_progress(len(found) + sum(beat.share for beat in beats), len(items), *notes[:1])

    tell()
    with closing(run_all(numbers, begin, workers)) as done, _every(LOOK, tell):
        for number, result in done:
            found[number] = result
            tell()
    return [found[number] for number in numbers]
