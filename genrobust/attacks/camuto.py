"""Camuto's maximum-damage attack: the reconstruction as far as possible from the clean one."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveFloat

from genrobust.attacks.base import Attack
from genrobust.batch import Context
from genrobust.models.model import Surrogate
from genrobust.objectives.base import Objective
from genrobust.objectives.draws import DrawnOutputDistance
from genrobust.objectives.output import OutputDistance
from genrobust.optimizers import Minimum, Problem, lbfgsb
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class Camuto(Attack):
    """Maximise ||x_hat(x_adv) - x_hat(x)||_2 in the L2 ball and box, from random points.

    A candidate beyond the ball stands for its projection, as in the published code's clipping.

    Args:
        restarts: random starts, the best kept.
        iterations: of L-BFGS-B each, at most.
        surrogate: what stands in for a categorical's argmax while searching.
        temperature: of the softmax surrogate.
        as_published: reconstruct from fresh draws of both posteriors at each evaluation, where
            the default takes the deployed code; the loss is then that of the luckiest draw.
            Draws are keyed by seed and sample. ``surrogate`` and ``temperature`` do not matter.

    Reference:
        Camuto, Willetts, Roberts, Holmes & Rainforth 2021, "Towards a theoretical understanding
        of the robustness of variational autoencoders", the maximum-damage attack.
    """

    name = "camuto"
    paper = "Camuto et al. 2021"
    libraries = ("scipy",)
    goals = ("untargeted",)
    norms = ("l2",)
    needs_ball = True

    restarts: int = 5
    iterations: int = 15_000
    surrogate: Surrogate = "softmax"
    temperature: PositiveFloat = 1.0
    as_published: bool = False

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        batch = context.batch
        objective: Objective = OutputDistance(self.surrogate, self.temperature)
        if self.as_published:
            objective = DrawnOutputDistance(batch.seed)
        problem = Problem.of(objective, context)
        best = Minimum(problem, batch.x)
        for restart in range(self.restarts):
            start = threat.random_start(batch.x, batch.sample_ids, batch.seed, restart)
            best.merge(
                lbfgsb(
                    *(problem, start, threat),
                    iterations=self.iterations,
                    factr=10,
                    history=100,
                    pgtol=1e-20,
                )
            )
        return problem, best
