"""What optimizers share: the loss with its gradient, counted, and the best iterate so far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.batch import Context
from genrobust.objectives.base import Objective


@dataclass(frozen=True, eq=False)
class Problem:
    """An objective on a batch, of which some samples are still being searched.

    Args:
        objective: what to minimise.
        context: the samples still searched.
        index: their positions in the whole batch.
        forwards, backwards: counts for the whole batch, (B,) int64, written in place.
    """

    objective: Objective
    context: Context
    index: Tensor
    forwards: Tensor
    backwards: Tensor

    @staticmethod
    def of(objective: Objective, context: Context) -> Problem:
        count, device = len(context.batch), context.batch.x.device
        counts = torch.zeros(2, count, dtype=torch.int64, device=device)
        return Problem(objective, context, torch.arange(count, device=device), *counts)

    def loss(self, x_adv: Tensor) -> Tensor:
        """The loss of each image, (B,), without a gradient."""
        self.forwards[self.index] += 1
        with torch.no_grad():
            return self.objective(x_adv, self.context).to(x_adv.dtype)

    def gradient(self, x_adv: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each image, (B,), and its gradient with respect to that image alone."""
        self.forwards[self.index] += 1
        self.backwards[self.index] += 1
        with torch.enable_grad():
            x_adv = x_adv.detach().requires_grad_()
            loss = self.objective(x_adv, self.context)
            (gradient,) = torch.autograd.grad(loss.sum(), x_adv)
        return loss.detach().to(x_adv.dtype), gradient

    def narrow(self, keep: Tensor) -> Problem:
        """The problem of the samples where ``keep``, a mask over the current ones, holds."""
        return Problem(
            self.objective, self.context[keep], self.index[keep], self.forwards, self.backwards
        )


class Minimum:
    """The best iterate of each sample of the whole batch; samples not searched have loss inf.

    Args:
        problem: what is searched.
        start: first iterates of the problem's samples.
    """

    def __init__(self, problem: Problem, start: Tensor) -> None:
        count = len(problem.forwards)
        self.x = start.new_zeros(count, *start.shape[1:])
        self.x[problem.index] = start
        self.loss = start.new_full((count,), torch.inf)

    def update(self, index: Tensor, x: Tensor, loss: Tensor) -> None:
        """Keep the images at positions ``index`` whose loss is lower than the best so far."""
        better = loss < self.loss[index]
        positions = index[better]
        self.x[positions] = x[better]
        self.loss[positions] = loss[better]

    def merge(self, other: Minimum) -> None:
        """Keep the better of each sample's two iterates."""
        better = other.loss < self.loss
        self.x[better] = other.x[better]
        self.loss[better] = other.loss[better]
