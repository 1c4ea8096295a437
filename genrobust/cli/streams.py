"""What a command prints to: streams that cannot stop it.

A reader that has left, a full device, a descriptor that is closed, or a terminal without a letter
loses words, and never a file. Of words that a reader still wanted, the command's end tells.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from genrobust.errors import GenrobustError

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def streams_that_never_fail() -> Iterator[None]:
    """Standard output and error are such streams for the block; both are flushed after it."""
    _occupy_closed_descriptors()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _Stream(stream)) for stream in before)
    mine = sys.stdout, sys.stderr
    try:
        yield
    finally:
        for stream in mine:
            stream.flush()
        sys.stdout, sys.stderr = before


def require_written() -> None:
    """Raises GenrobustError if standard output lost words that a reader still wanted."""
    if not isinstance(sys.stdout, _Stream):
        return
    sys.stdout.flush()
    lost = sys.stdout.lost
    if lost is not None and not isinstance(lost, BrokenPipeError):
        raise GenrobustError(
            f"standard output cannot be written ({lost}), and what was to stand there is lost; "
            "direct it to a place that has space left"
        )


def console(**known: Any) -> Console:
    """What prints tables and bars, as wide as the terminal; COLUMNS=0 says nothing of that."""
    from rich.console import Console

    found = Console(**known)
    if found.width < 1:  # it would print nothing at all
        found = Console(**known, width=shutil.get_terminal_size().columns)
    return found


class _Stream:
    """A text stream whose words are lost where they cannot be written."""

    #: Why words were lost.
    lost: Exception | None = None

    def __init__(self, stream: TextIO | None) -> None:
        self._stream: TextIO = _nowhere() if stream is None else stream

    def write(self, text: str) -> int:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def isatty(self) -> bool:
        with suppress(OSError, ValueError):
            return self._stream.isatty()
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except (OSError, ValueError) as problem:  # ValueError: somebody closed it
            self.lost = self.lost or problem
            self._drop()

    def _drop(self) -> None:
        """What is written from now on, and what waits to be, goes nowhere."""
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def _occupy_closed_descriptors() -> None:
    """Else the next file that is opened is standard error, and gets what libraries print there."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
