"""Carlini and Wagner's attack: the shortest change that fools a judge of the reconstruction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from genrobust.attacks.base import Attack
from genrobust.attacks.closest import Bisection, Closest
from genrobust.batch import Context
from genrobust.models.model import Surrogate
from genrobust.objectives.classifier import JudgeMargin
from genrobust.optimizers import Minimum, Problem, tanh
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class CarliniWagner(Attack):
    """Minimise ||x_adv - x||_2^2 + c * max(margin, -confidence) over w, x_adv = (tanh(w) + 1) / 2.

    The margin is the judge's on the reconstruction; c is found by bisection, one a sample. The
    nearest candidate that fools the judge is returned, or else the one of least margin. Under a
    finite eps every candidate is projected first. The result's loss is the margin.

    Args:
        steps: of Adam, at most, for each c.
        searches: values of c.
        learning_rate: Adam's, in units of w.
        confidence: kappa, how far below 0 the margin must fall, in logits.
        initial: the first c.
        abort_early: leave a c when a tenth of the steps gained a sample less than 1e-4 of its loss.
        surrogate: what stands in for a categorical's argmax. A candidate counts by its forward
            pass, so the default is the one whose forward pass is the deployed code.
        temperature: of the softmax surrogate.

    Reference:
        Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", its L2
        attack with f_6, on the model followed by the judge; defaults from the released code.
    """

    name = "carlini-wagner"
    paper = "Carlini & Wagner 2017"
    norms = ("l2",)
    needs_judge = True

    steps: int = 10_000
    searches: int = 9
    learning_rate: PositiveFloat = 0.01
    confidence: NonNegativeFloat = 0.0
    initial: PositiveFloat = 1e-3
    abort_early: bool = True
    surrogate: Surrogate = "straight-through"
    temperature: PositiveFloat = 1.0

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        x = context.batch.x
        problem = Problem.of(JudgeMargin(self.surrogate, self.temperature), context)
        closest = Closest(problem, x)
        bisection = Bisection(torch.full_like(closest.distance, self.initial))
        for _ in range(self.searches):
            bisection.update(self._descend(problem, threat, bisection.weight, closest))
        return problem, closest.minimum

    def _descend(
        self, problem: Problem, threat: ThreatModel, weight: Tensor, closest: Closest
    ) -> Tensor:
        """One run of Adam from the sources; whether it fooled the judge, (B,) bool."""
        source = problem.context.batch.x
        variable = tanh.from_image(source)
        optimizer = torch.optim.Adam([variable], lr=self.learning_rate)
        fooled = torch.zeros_like(weight, dtype=torch.bool)
        before = torch.full_like(weight, torch.inf)
        check_every = math.ceil(self.steps / 10)
        active = problem
        for step in range(self.steps):
            index = active.index
            x = threat.project(tanh.to_image(variable[index]), source[index])
            variable[index] = tanh.follow(variable[index], x)
            margin, gradient = active.gradient(x)
            change = x - source[index]
            squared = change.flatten(1).square().sum(1)
            done = margin < -self.confidence
            closest.update(index, x, margin, squared, done)
            fooled[index] |= done
            # Once the margin is below its floor, only the distance is left to go down.
            push = torch.where(done, 0, weight[index]).view(-1, *[1] * (x.ndim - 1))
            slope = torch.zeros_like(variable)
            slope[index] = tanh.chain(variable[index], 2 * change + push * gradient)
            variable.grad = slope
            optimizer.step()
            if self.abort_early and step % check_every == 0:
                whole = squared + weight[index] * (margin + self.confidence).clamp_min(0)
                gained = whole <= 0.9999 * before[index]
                before[index] = whole
                active = active.narrow(gained)
                if not len(active.index):
                    break
        return fooled
