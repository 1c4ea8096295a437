"""Szegedy's attack: box-constrained L-BFGS towards a class of the judge."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import PositiveFloat

from genrobust.attacks.base import Attack
from genrobust.attacks.closest import Bisection, Closest
from genrobust.batch import Context
from genrobust.distance import euclidean
from genrobust.models.model import Surrogate
from genrobust.objectives.classifier import JudgeCrossEntropy, JudgeMargin
from genrobust.optimizers import Minimum, Penalty, Problem, lbfgsb
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class Szegedy(Attack):
    """Minimise c * ||r||_2 + cross-entropy(judge(x_hat(x + r)), target) with x + r in the box.

    c is found by a line search, one a sample: the largest with which the minimiser still reaches
    the target's class. The shortest such r is returned, or else the one of lowest cross-entropy,
    which is the result's loss. Under a finite eps the ball bounds the search too.

    Args:
        searches: values of c.
        iterations: of L-BFGS-B for each c.
        initial: the first c.
        surrogate: what stands in for a categorical's argmax. A candidate counts by its forward
            pass, so the default is the one whose forward pass is the deployed code.
        temperature: of the softmax surrogate.

    Reference:
        Szegedy et al. 2014, "Intriguing properties of neural networks", section 4.1, on the model
        followed by the judge; Sootla 2018, eq. (2.15).
    """

    name = "szegedy"
    paper = "Szegedy et al. 2014"
    libraries = ("scipy",)
    goals = ("targeted",)
    norms = ("any",)
    needs_judge = True

    searches: int = 15
    iterations: int = 100
    initial: PositiveFloat = 1.0
    surrogate: Surrogate = "straight-through"
    temperature: PositiveFloat = 1.0

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        x = context.batch.x
        problem = Problem.of(JudgeCrossEntropy(self.surrogate, self.temperature), context)
        margin = Problem(
            JudgeMargin(self.surrogate, self.temperature),
            context,
            problem.index,
            problem.forwards,
            problem.backwards,
        )
        closest = Closest(problem, x)
        # c weighs the distance; its inverse weighs the loss, and the smallest that works is sought.
        bisection = Bisection(torch.full_like(closest.distance, 1 / self.initial))
        for _ in range(self.searches):
            penalised = problem.penalised(Penalty(1 / bisection.weight))
            found = lbfgsb(penalised, x, threat, iterations=self.iterations).x
            fooled = margin.loss(found) < 0
            closest.update(problem.index, found, problem.loss(found), euclidean(found, x), fooled)
            bisection.update(fooled)
        return problem, closest.minimum
