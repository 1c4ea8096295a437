"""BIM: FGSM in small steps from the source."""

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
class BIM(Attack):
    """Steps of fixed size along the sign of the judge's cross-entropy, each cut to ball and box.

    Args:
        step_size: in pixel units; the paper's is one grey level.
        steps: 0 for the paper's count, min(eps + 4, 1.25 eps) with eps in grey levels.
        surrogate: what stands in for a categorical's argmax while searching.
        temperature: of the softmax surrogate.
        as_published: return the last iterate in place of the best.

    Reference:
        Kurakin, Goodfellow & Bengio 2017, "Adversarial examples in the physical world", on the
        model followed by the judge.
    """

    name = "bim"
    paper = "Kurakin, Goodfellow & Bengio 2017"
    norms = ("linf",)
    needs_judge = True
    needs_ball = True

    step_size: PositiveFloat = 1 / 255
    steps: int = 0
    surrogate: Surrogate = "softmax"
    temperature: PositiveFloat = 1.0
    as_published: bool = False

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        problem = Problem.of(JudgeCrossEntropy(self.surrogate, self.temperature), context)
        levels = 255 * threat.eps
        steps = self.steps or max(1, int(min(levels + 4, 1.25 * levels)))
        return problem, pgd(
            problem, context.batch.x, threat, steps, self.step_size, last=self.as_published
        )
