"""What our own attacks share: searches from keyed starts, and the best of several searches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genrobust.batch import Context
from genrobust.objectives.base import Objective
from genrobust.objectives.classifier import deployed_margin
from genrobust.optimizers import Minimum, Problem, apgd
from genrobust.threat import ThreatModel


def restarted_apgd(
    objective: Objective,
    context: Context,
    threat: ThreatModel,
    steps: int,
    restarts: int,
    stop_below: float | None = None,
    patience: float | None = None,
) -> tuple[Problem, Minimum]:
    """Run APGD from ``restarts`` random points of the ball, the best of each sample kept.

    Samples that a restart brought below ``stop_below`` are left out of the next.
    """
    whole = problem = Problem.of(objective, context)
    best = Minimum(whole, context.batch.x)
    for restart in range(restarts):
        batch = problem.context.batch
        start = threat.random_start(batch.x, batch.sample_ids, batch.seed, restart)
        best.merge(apgd(problem, start, threat, steps, stop_below, patience))
        if stop_below is not None:
            problem = problem.narrow(best.loss[problem.index] >= stop_below)
            if not len(problem.index):
                break
    return whole, best


class BestOf:
    """The best of several searches by the attacker's judge on the deployed path.

    Searches towards different targets have losses that cannot be compared; the margin of the
    judge on what the model really gives can. A sample is done when it is below -``confidence``.

    ``clean`` is the margin of each sample's own image, (B,).
    """

    def __init__(self, context: Context, confidence: float) -> None:
        self.context, self.confidence = context, confidence
        self.problem = Problem.of(deployed_margin, context)
        self.minimum = Minimum(self.problem, context.batch.x)
        whole = torch.arange(len(context.batch), device=context.batch.x.device)
        self.offer(whole, context.batch.x)
        self.clean = self.minimum.loss.clone()

    def unbroken(self) -> Tensor:
        """Positions of the samples that are not done."""
        return (self.minimum.loss >= -self.confidence).nonzero()[:, 0]

    def offer(self, positions: Tensor, x_adv: Tensor) -> None:
        """Score images on the deployed path and keep those that are better."""
        part = self.problem if len(positions) == len(self.context.batch) else self._at(positions)
        self.minimum.update(positions, x_adv, part.loss(x_adv))

    def search(
        self, run: Callable[[Context], tuple[Problem, Minimum]], positions: Tensor | None = None
    ) -> None:
        """Run a search on the samples at ``positions``, default all that are not done."""
        positions = self.unbroken() if positions is None else positions
        if not len(positions):
            return
        problem, found = run(self.context[positions])
        self.problem.forwards[positions] += problem.forwards
        self.problem.backwards[positions] += problem.backwards
        self.offer(positions, found.x)

    def _at(self, positions: Tensor) -> Problem:
        keep = torch.zeros(len(self.context.batch), dtype=torch.bool, device=positions.device)
        keep[positions] = True
        return self.problem.narrow(keep)
