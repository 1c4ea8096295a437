"""Progress on stderr: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from genrobust.cli.interrupt import heed
from genrobust.cli.streams import console

if TYPE_CHECKING:
    from genrobust.runner import execute

#: Seconds between two lines.
EVERY = 10.0


@contextmanager
def progress(title: str) -> Iterator[execute.Progress]:
    """A progress display for the block."""
    if not sys.stderr.isatty() or os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        yield _Lines(title)
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    rest = Column(ratio=2, no_wrap=True)  # beside the bar alone, so that a long note hides nothing
    columns = (
        TextColumn("{task.description}", markup=False),  # names are not ours
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[pace]}", markup=False),
        TextColumn("{task.fields[note]}", markup=False, table_column=rest),
    )
    pace = _Pace()
    with Progress(*columns, console=console(stderr=True), expand=True) as bar:
        task = bar.add_task(title, total=None, pace="", note="")

        def advance(done: float, total: int, note: str = "") -> None:
            heed()
            words = pace.words(done, total, "")
            bar.update(task, completed=done, total=total, pace=words, note=note)

        yield advance


class _Pace:
    """The time left, from the pace since work began to move."""

    def __init__(self) -> None:
        self.began: tuple[float, float] | None = None

    def words(self, done: float, total: int, note: str) -> str:
        """How many are done, in how many seconds the others will be, and the note."""
        now = time.monotonic()
        # Workers get ready before anything moves, and one piece of work may follow another.
        if self.began is None or done <= self.began[1]:
            self.began = (now, done)
        start, first = self.began
        words = [f"{int(done)}/{total}"]
        if first < done < total:
            words.append(f"about {duration((now - start) / (done - first) * (total - done))} left")
        return ", ".join([*words, *([note] if note else [])])


class _Lines:
    """A line now and then, the first with a time left as soon as there is one."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.pace = _Pace()
        self.spoke = -float("inf")
        self.told_time = self.ended = False

    def __call__(self, done: float, total: int, note: str = "") -> None:
        heed()
        now = time.monotonic()
        words = self.pace.words(done, total, note)
        news = " left" in words and not self.told_time
        ends = done >= total and not self.ended
        if now - self.spoke < EVERY and not ends and not news:
            return
        self.spoke, self.told_time, self.ended = now, self.told_time or news, done >= total
        part = f" ({done / total:.0%})" if done != int(done) else ""
        head, comma, rest = words.partition(",")
        print(f"{self.title}: {head}{part}{comma}{rest}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """In words.

    >>> duration(42), duration(4000), duration(200_000)
    ('42 s', '1 h 7 min', '55 h 33 min')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def counted(number: int, what: str) -> str:
    """
    >>> counted(1, "shard"), counted(3, "source")
    ('1 shard', '3 sources')
    """
    return f"{number} {what}{'' if number == 1 else 's'}"
