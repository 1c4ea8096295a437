"""An attack without gradients: mix the target into the source."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from genrobust.attacks import Attack
from genrobust.batch import Context
from genrobust.objectives.output import OutputDistance
from genrobust.optimizers import Minimum, Problem
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class Blend(Attack):
    """Try mixtures of source and target; keep the one that is reconstructed nearest the target.

    Args:
        points: how many mixtures.
    """

    name = "demo-blend"
    paper = "none"
    goals = ("targeted",)
    norms = ("any",)

    points: int = 8

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        x, target = context.batch.x, context.batch.target_x
        assert target is not None
        problem = Problem.of(OutputDistance(), context)
        best = Minimum(problem, x)
        for weight in torch.linspace(0, 1, self.points).tolist():
            x_adv = threat.project(torch.lerp(x, target, weight), x)
            best.update(problem.index, x_adv, problem.loss(x_adv))
        return problem, best
