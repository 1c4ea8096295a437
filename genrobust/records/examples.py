"""The pictures of a report: a few sources and what became of them at each radius."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Attacked:
    """A source's attacked image at the smallest radius at which it fell, (C, H, W) in [0, 1]."""

    eps: float
    x_adv: Tensor
    reconstruction: Tensor
    shows: int  # the class the judges agree on


@dataclass(frozen=True, eq=False)
class Example:
    """A source with its clean reconstruction; ``attacked`` is empty if it stood at every radius."""

    sample_id: int
    label: int
    source: Tensor
    reconstruction: Tensor
    attacked: tuple[Attacked, ...]
