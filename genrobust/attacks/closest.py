"""What attacks share that look for the smallest change that fools a judge."""

from __future__ import annotations

import torch
from torch import Tensor

from genrobust.optimizers.problem import Minimum, Problem


class Closest:
    """The nearest fooling candidate of each sample; until there is one, that of lowest loss.

    Args:
        problem: what is searched, all samples of it.
        start: a first image of each.
    """

    def __init__(self, problem: Problem, start: Tensor) -> None:
        self.minimum = Minimum(problem, start)
        self.distance = torch.full_like(self.minimum.loss, torch.inf)

    def update(
        self, index: Tensor, x: Tensor, loss: Tensor, distance: Tensor, fooled: Tensor
    ) -> None:
        """Look at one candidate each of the samples at positions ``index``."""
        nearer = fooled & (distance < self.distance[index])
        self.minimum.replace(index[nearer], x[nearer], loss[nearer])
        self.distance[index[nearer]] = distance[nearer]
        hopeless = self.distance[index].isinf()
        self.minimum.update(index[hopeless], x[hopeless], loss[hopeless])


class Bisection:
    """The smallest weight of the loss that still fools, one a sample: grow tenfold, then halve.

    Args:
        first: the weights to begin with, (B,).
    """

    def __init__(self, first: Tensor) -> None:
        self.weight = first
        self._low = torch.zeros_like(first)
        self._high = torch.full_like(first, torch.inf)

    def update(self, fooled: Tensor) -> None:
        """Go on from whether the current weights fooled the judge, (B,) bool."""
        self._high = torch.where(fooled, self.weight, self._high)
        self._low = torch.where(fooled, self._low, self.weight)
        middle = (self._low + self._high) / 2
        self.weight = torch.where(self._high.isinf(), 10 * self.weight, middle)
