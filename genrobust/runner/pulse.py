"""How far a shard's work is, in a small file beside its result: whoever sees the folder sees it.

So a run is watched alike whether threads, processes or other machines compute it, by the command
that began it and by ``genrobust status``.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from pydantic import TypeAdapter

from genrobust.models.model import GenerativeModel

#: Seconds between two writes.
EVERY = 1.0

#: What the files end with.
SUFFIX = ".pulse"


@dataclass(frozen=True)
class Beat:
    """What a pulse says.

    Args:
        share: of the shard's work that is done, about, in [0, 1].
        note: what is being done.
        time: when it was said, in seconds since 1970, by the clock of the file's machine.
        place, process: where it was said, and by which process there.
    """

    share: float
    note: str
    time: float
    place: str = ""
    process: int = 0

    @classmethod
    def read(cls, path: Path) -> Beat | None:
        """None where there is none, or half of one."""
        try:
            found = {"time": path.stat().st_mtime, **json.loads(path.read_bytes())}
            return _BEAT.validate_python(found)
        except (OSError, ValueError, TypeError):
            return None

    @property
    def has_ended(self) -> bool:
        """Whether the process is known to be gone; of another machine's nothing is."""
        here = self.place != "" and self.place == _place()
        return here and not Path(f"/proc/{self.process}").exists()


_BEAT = TypeAdapter(Beat)


@cache
def _place() -> str:
    """This machine since its start, and the processes that are seen in it; "" where none tells."""
    with suppress(OSError):
        start = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{start} {Path('/proc/self/ns/pid').readlink()}"
    return ""


class Pulse:
    """Of one shard.

    Work is counted in images that go through the encoder: those that went, and those that are
    still to go. Of what is expected ahead so much is taken as was of what was expected before:
    samples that fall, or are given up, take less.

    Args:
        path: its file; None has it told to those who ask.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.spent = 0
        self.last = 0.0  # images that go through at the end, whatever is done before
        self._note = ""
        self._began, self._ahead, self._behind = 0, 0.0, math.inf  # until something begins
        self._taken, self._expected = 0, 0.0
        self._shown = 0.0
        self._written = time.monotonic()

    def begin(self, note: str, this: float, behind: float) -> None:
        """A piece of work begins that takes about so many images, with so many behind it."""
        if math.isfinite(self._behind):
            self._taken += self.spent - self._began
            self._expected += self._ahead
        self._note, self._ahead, self._behind = note, this, behind
        self._began = self.spent

    def tick(self, images: int) -> None:
        """So many images go through the encoder."""
        self.spent += images
        if self.path is None or time.monotonic() - self._written < EVERY:
            return
        self._written = time.monotonic()
        with suppress(OSError):  # of a full disk the result will tell
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beat = self.beat()
            said = {"share": round(beat.share, 4), "note": beat.note}
            self.path.write_text(json.dumps(said | {"place": _place(), "process": os.getpid()}))

    def beat(self) -> Beat:
        """What is said now, in this process."""
        self._shown = max(self._shown, self.share)  # what is seen never goes back
        return Beat(self._shown, self._note, time.time())

    @property
    def share(self) -> float:
        """Of the work that is done; never all of it."""
        usual = self._taken / self._expected if self._expected else 1.0
        here = max(usual * self._ahead - (self.spent - self._began), 0)
        left = here + usual * self._behind + self.last
        return min(self.spent / (self.spent + left + 1), 0.99)

    def watched(self, model: GenerativeModel) -> GenerativeModel:
        """The same model, which ticks."""
        encoder = model.encoder

        def encode(x: torch.Tensor) -> object:
            self.tick(len(x))
            return encoder(x)

        return replace(model, encoder=encode)  # type: ignore[arg-type]

    def remove(self) -> None:
        """The work is done."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def under_way(folder: Path, since: float = 0.0) -> Callable[[], dict[str, Beat]]:
    """A function that gives what shards under way say, by key.

    Args:
        folder: of the run.
        since: what was said before this is of a run that was stopped.
    """

    def look() -> dict[str, Beat]:
        found = {p.stem: Beat.read(p) for p in (folder / "shards").glob(f"*{SUFFIX}")}
        return {key: beat for key, beat in found.items() if beat and beat.time >= since}

    return look
