"""How to run a suite."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """How to run a suite: which part of it, where to, with how many hands.

    ``batch_size`` is the most images that go through the model at once; None for any number.
    ``as_data`` runs a model in the form in which it can be handed on, where it has one: what is
    scored is then what others can score again.
    """

    limit: int | None = None
    seed: int = 0
    attacks: tuple[str, ...] = ()
    norm: str | None = None
    eps: tuple[float, ...] = ()
    judge: str | None = None
    judge_in_train_mode: bool = False
    device: str = "cpu"
    workers: int | None = None
    batch_size: int | None = None
    data_root: str | Path | None = None
    weights: str | Path | None = None
    as_data: bool = False
