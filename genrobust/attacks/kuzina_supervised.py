"""Kuzina's supervised attack of 2021: the target's posterior in symmetric KL, by Adam."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import NonNegativeFloat, PositiveFloat

from genrobust.attacks.base import Attack
from genrobust.batch import Context
from genrobust.objectives.kuzina import PosteriorMatch
from genrobust.optimizers import Minimum, Penalty, Problem, adam
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class KuzinaSupervised(Attack):
    """Minimise SKL(q(z | x_adv), q(z | x_t)) + distance_weight * ||x_adv - x||_2 from the source.

    SKL is the mean of both KL divergences. A sample's learning rate is halved after more than
    ``patience`` steps without gain.

    Args:
        steps: of Adam.
        learning_rate: Adam's first, in pixel units.
        distance_weight: lambda; the distance is not squared.
        patience: in steps.
        as_published: search without box or ball and return the last iterate, which alone is
            projected; the default projects each step and returns the best.

    Reference:
        Kuzina, Welling & Tomczak 2021, "Diagnosing vulnerability of variational auto-encoders to
        adversarial attacks", the supervised attack.
    """

    name = "kuzina-supervised"
    paper = "Kuzina, Welling & Tomczak 2021"
    goals = ("targeted",)
    norms = ("any",)

    steps: int = 1000
    learning_rate: PositiveFloat = 0.1
    distance_weight: NonNegativeFloat = 1.0
    patience: int = 100
    as_published: bool = False

    def expected_passes(self) -> int:
        return self.steps

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        problem = Problem.of(PosteriorMatch("skl"), context, Penalty(self.distance_weight))
        return problem, adam(
            problem,
            context.batch.x,
            threat,
            self.steps,
            self.learning_rate,
            patience=self.patience,
            free=self.as_published,
        )
