"""PGD: small steps against a judge of the reconstruction, from a random point of the ball."""

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
class PGD(Attack):
    """Steps of fixed size up the judge's cross-entropy, projected, from random starts.

    Under L2 the steps go along the gradient instead of its sign.

    Args:
        steps: per restart.
        relative_step: the step's size as a share of eps; the paper's on MNIST is 0.01 of 0.3.
        restarts: random starts, the best kept.
        surrogate: what stands in for a categorical's argmax while searching.
        temperature: of the softmax surrogate.
        as_published: each restart gives its last iterate in place of its best.

    Reference:
        Madry, Makelov, Schmidt, Tsipras & Vladu 2018, "Towards deep learning models resistant to
        adversarial attacks", on the model followed by the judge.
    """

    name = "pgd"
    paper = "Madry et al. 2018"
    norms = ("any",)
    needs_judge = True
    needs_ball = True

    steps: int = 40
    relative_step: PositiveFloat = 1 / 30
    restarts: int = 1
    surrogate: Surrogate = "softmax"
    temperature: PositiveFloat = 1.0
    as_published: bool = False

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        batch = context.batch
        problem = Problem.of(JudgeCrossEntropy(self.surrogate, self.temperature), context)
        best = Minimum(problem, batch.x)
        for restart in range(self.restarts):
            start = threat.random_start(batch.x, batch.sample_ids, batch.seed, restart)
            size = self.relative_step * threat.eps
            best.merge(pgd(problem, start, threat, self.steps, size, last=self.as_published))
        return problem, best
