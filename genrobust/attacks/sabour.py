"""Feature adversaries: an image near the source with the target's internal representation."""

from __future__ import annotations

from dataclasses import dataclass

from genrobust.attacks.base import Attack
from genrobust.batch import Context
from genrobust.objectives.latent import SquaredLatentDistance
from genrobust.optimizers import Minimum, Problem, lbfgsb
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class Sabour(Attack):
    """Minimise ||h(x_adv) - h(x_t)||_2^2 in an L-infinity box by L-BFGS-B, from the source.

    h is the vector of means and logits, the encoder's last layer. The paper's boxes are of 5 to
    10 grey levels of 255.

    Args:
        iterations: of L-BFGS-B, at most.

    Reference:
        Sabour, Cao, Faghri & Fleet 2016, "Adversarial manipulation of deep representations".
    """

    name = "sabour"
    paper = "Sabour et al. 2016"
    libraries = ("scipy",)
    goals = ("targeted",)
    norms = ("linf",)

    iterations: int = 500

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        problem = Problem.of(SquaredLatentDistance(), context)
        return problem, lbfgsb(problem, context.batch.x, threat, iterations=self.iterations)
