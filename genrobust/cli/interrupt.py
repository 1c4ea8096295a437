"""Ctrl-C, heard also where what it broke into kept the exception to itself.

Python raises KeyboardInterrupt wherever the main thread is. Code in C that calls back into Python
may answer with an error of its own (torch, while a file of tensors is read: "could not determine
the shape"), and a bare ``except:`` in a user's model may pass over it. So what was typed is
remembered, and raised again where the command is at the next such place.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_asked = threading.Event()


def asked() -> bool:
    """Whether Ctrl-C was typed in the block of :func:`heard`."""
    return _asked.is_set()


def heed() -> None:
    """Raise it again, in the main thread.

    Raises:
        KeyboardInterrupt: Ctrl-C was typed.
    """
    if asked() and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


@contextmanager
def heard() -> Iterator[None]:
    """Remember that Ctrl-C was typed, for the block; where a program listens itself, it does."""
    _asked.clear()
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _remember(number: int, frame: FrameType | None) -> None:
    _asked.set()
    raise KeyboardInterrupt
