"""What a shard's work has found so far, on disk now and then: a killed run does not lose it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from genrobust import files
from genrobust.runner.pulse import SUFFIX, Pulse

#: Seconds of work that a killed run may lose.
EVERY = 5.0


class Checkpoint:
    """The state of one shard's work, as tensors by name.

    Args:
        path: its file; None keeps nothing.
        identity: what the work depends on: a state of other work is not read.
        every: seconds between two writes; default ``EVERY``.
        cancelled: whether to give the work up.
    """

    def __init__(
        self,
        path: Path | None,
        identity: str = "",
        every: float | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self.path, self.identity, self.cancelled = path, identity, cancelled
        self.every = EVERY if every is None else every
        self.pulse = Pulse(None if path is None else path.with_suffix(SUFFIX))
        self.began = self.last = time.monotonic()
        self.earlier = 0.0

    @property
    def seconds(self) -> float:
        """Of work so far, by this process and those that it goes on from."""
        return self.earlier + time.monotonic() - self.began

    def read(self) -> dict[str, Tensor] | None:
        """The state; None if there is none, or none that is whole and of this work."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            tensors, metadata = files.read_tensors(self.path)
        except (OSError, ValueError):
            return None
        whole = metadata.get("sha256") == files.sha256_of_tensors(tensors)
        if not whole or metadata.get("identity") != self.identity:
            return None
        self.earlier = float(metadata["seconds"])
        return tensors

    def offer(self, state: Callable[[], dict[str, Tensor]]) -> None:
        """Write the state if the last one is old enough.

        Raises:
            GenrobustError: it cannot be written.
        """
        if self.path is None or time.monotonic() - self.last < self.every:
            return
        tensors = state()
        metadata = {
            "identity": self.identity,
            "sha256": files.sha256_of_tensors(tensors),
            "seconds": repr(self.seconds),
        }
        files.write_tensors(self.path, tensors, metadata)
        self.last = time.monotonic()

    def remove(self) -> None:
        """The work is done."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.pulse.remove()


def nowhere(cancelled: Callable[[], bool] = lambda: False) -> Checkpoint:
    """A checkpoint that keeps nothing."""
    return Checkpoint(None, cancelled=cancelled)
