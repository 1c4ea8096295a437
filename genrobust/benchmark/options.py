"""How to run a suite."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """How to run a suite: which part of it, where to, with how many hands."""

    limit: int | None = None
    seed: int = 0
    attacks: tuple[str, ...] = ()
    eps: tuple[float, ...] = ()
    judge: str | None = None
    device: str = "cpu"
    workers: int | None = None
    data_root: str | Path | None = None
    weights: str | Path | None = None
