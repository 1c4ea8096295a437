"""How to run a suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from genrobust.arguments import path, real, several, text, whole

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """How to run a suite: which part of it, where to, with how many hands.

    ``batch_size`` is the most images that go through the model at once; None for any number.
    ``as_data`` runs a model in the form in which it can be handed on, where it has one: what is
    scored is then what others can score again.
    """

    limit: int | None = None
    seed: int = 0
    attacks: Sequence[str] = ()
    norm: str | None = None
    eps: Sequence[float] = ()
    judge: str | None = None
    judge_in_train_mode: bool = False
    device: str = "cpu"
    workers: int | None = None
    executor: str = "threads"
    batch_size: int | None = None
    data_root: str | Path | None = None
    weights: str | Path | None = None
    as_data: bool = False

    def __post_init__(self) -> None:
        """Read what came from Python; what a number may be is said where it is used.

        Raises:
            GenrobustError: an option is of another kind.
        """
        read = {
            "limit": _maybe(self.limit, whole, "limit", 20),
            "seed": whole("seed", self.seed, 0),
            "attacks": several("attacks", self.attacks, text, "latent"),
            "norm": _maybe(self.norm, text, "norm", "l2"),
            "eps": several("eps", self.eps, real, 0.1),
            "judge": _maybe(self.judge, text, "judge", "thesis"),
            "workers": _maybe(self.workers, whole, "workers", 2),
            "executor": text("executor", self.executor, "processes"),
            "device": text("device", str(self.device), "cpu"),
            "data_root": _maybe(self.data_root, path, "data_root", "data"),
        }
        for name, value in read.items():
            object.__setattr__(self, name, value)


def _maybe(
    value: T | None, kind: Callable[[str, Any, Any], T], name: str, example: Any
) -> T | None:
    return None if value is None else kind(name, value, example)
