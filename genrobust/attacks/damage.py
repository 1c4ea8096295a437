"""Damage: away from the source's picture, by steps that fall from the ball's size to none."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pydantic import PositiveFloat

from genrobust.attacks.base import Attack
from genrobust.batch import Context
from genrobust.models.model import Surrogate
from genrobust.objectives.output import Damage
from genrobust.optimizers import Minimum, Problem, falling
from genrobust.threat import ThreatModel

#: How far from the source the first search starts, in parts of the radius.
NEAR = 0.01


@dataclass(frozen=True)
class DamageAttack(Attack):
    """Move the reconstruction as far from the source as it goes, by steps that fall evenly.

    The first step is as long as the radius. Of pictures of thousands of numbers adaptive PGD halves
    its steps too soon, and needs several times the gradients for the same damage. The first start
    is beside the source, as noise of the whole radius may be where a model holds its picture still
    and has no gradient.

    Args:
        steps: gradients per restart.
        restarts: starts, of which all but the first are anywhere in the ball.
        surrogate: what stands in for a categorical's argmax while searching.
        temperature: of the softmax surrogate.

    Reference:
        Camuto et al. 2021, "Towards a theoretical understanding of the robustness of variational
        autoencoders" (maximum damage, here of the source itself); the search is PGD's, Madry et
        al. 2018, with steps that fall.
    """

    name = "damage"
    paper = "Camuto et al. 2021"
    norms = ("any",)
    goals = ("untargeted",)
    needs_ball = True

    steps: int = 100
    restarts: int = 3
    surrogate: Surrogate = "softmax"
    temperature: PositiveFloat = 1.0

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        batch = context.batch
        problem = Problem.of(Damage(self.surrogate, self.temperature), context)
        best = Minimum(problem, batch.x)
        for restart in range(self.restarts):
            ball = threat if restart else replace(threat, eps=NEAR * threat.eps)
            start = ball.random_start(batch.x, batch.sample_ids, batch.seed, restart)
            best.merge(falling(problem, start, threat, self.steps, 1.0))
        return problem, best
