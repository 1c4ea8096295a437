"""Progress on stderr: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """Say how many of how many are done, and a note such as the loss."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


@contextmanager
def progress(title: str, every_seconds: float = 10.0) -> Iterator[Advance]:
    """A progress display for the block."""
    if not sys.stderr.isatty():
        yield _Lines(title, every_seconds)
        return
    from rich.console import Console
    from rich.progress import (  # fmt: skip
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, note="")

        def advance(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield advance


class _Lines:
    """A line now and then; the time left is from the pace since the first call."""

    def __init__(self, title: str, every_seconds: float) -> None:
        self.title, self.every = title, every_seconds
        self.began: tuple[float, int] | None = None
        self.spoke = -float("inf")

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if self.began is None or done == 0:  # one piece of work may follow another
            self.began = (now, done)
        if now - self.spoke < self.every and done < total:
            return
        self.spoke = now
        start, first = self.began
        left = ""
        if first < done < total:
            left = f", about {(now - start) / (done - first) * (total - done):.0f} s left"
        words = f"{self.title}: {done}/{total}{left}{f', {note}' if note else ''}"
        print(words, file=sys.stderr, flush=True)
