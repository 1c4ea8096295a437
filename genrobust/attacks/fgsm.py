"""FGSM: one step of the ball's size against a judge of the reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveFloat

from genrobust.attacks.base import Attack
from genrobust.batch import Context
from genrobust.models.model import Surrogate
from genrobust.objectives.classifier import JudgeCrossEntropy
from genrobust.optimizers import Minimum, Problem, pgd
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class FGSM(Attack):
    """x_adv = x + eps * sign(grad of the judge's cross-entropy), cut to the box.

    Targeted it goes down the target's cross-entropy. Under L2 the step is eps along the gradient.
    The step is returned whether or not it helps.

    Args:
        surrogate: what stands in for a categorical's argmax while searching.
        temperature: of the softmax surrogate.

    Reference:
        Goodfellow, Shlens & Szegedy 2015, "Explaining and harnessing adversarial examples", on
        the model followed by the judge.
    """

    name = "fgsm"
    paper = "Goodfellow, Shlens & Szegedy 2015"
    norms = ("any",)
    needs_judge = True
    needs_ball = True

    surrogate: Surrogate = "softmax"
    temperature: PositiveFloat = 1.0

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        problem = Problem.of(JudgeCrossEntropy(self.surrogate, self.temperature), context)
        return problem, pgd(problem, context.batch.x, threat, 1, threat.eps, last=True)
