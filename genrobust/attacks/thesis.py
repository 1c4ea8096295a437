"""The thesis' attack: the latent distance by Adam in an L-infinity box."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import NonNegativeFloat, PositiveFloat

from genrobust.attacks.base import Attack
from genrobust.batch import Context
from genrobust.objectives.latent import LatentDistance
from genrobust.optimizers import Minimum, Penalty, Problem, adam
from genrobust.seeding import noise_like
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class Thesis(Attack):
    """Minimise distance_weight * ||x_adv - x||_2 + ||h(x_adv) - h(x_t)||_2 by Adam.

    h is the vector of means and categorical logits; norms are not squared. The start is
    clamp(x + N(0, start_noise^2), 0, 1); each step is projected to the box. The thesis' eps is
    0.1. Gradients are those of the current step and the best iterate is returned.

    Args:
        steps: of Adam.
        learning_rate: Adam's.
        distance_weight: lambda.
        start_noise: standard deviation, in pixel units; 0: the source is the start.
        as_published: search as the published code does, which never zeroes the gradient, so that
            each step of Adam takes the sum of all gradients so far, and returns the last iterate.
            Its other departures (codes of categorical latents drawn at random, a judge with
            dropout live) are in how it scores, not in how it searches.

    Reference:
        Sootla 2018, "Investigating the robustness of disentangled variational autoencoders to
        adversarial examples", section 3 (MSc thesis, UCL).
    """

    name = "thesis"
    paper = "Sootla 2018"
    goals = ("targeted",)
    norms = ("linf",)

    steps: int = 1000
    learning_rate: PositiveFloat = 1e-3
    distance_weight: NonNegativeFloat = 1.0
    start_noise: NonNegativeFloat = 0.2
    as_published: bool = False

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        batch = context.batch
        noise = noise_like(batch.x, batch.sample_ids, "thesis", batch.seed, draw=torch.randn)
        start = (batch.x + self.start_noise * noise).clamp(0, 1)
        problem = Problem.of(LatentDistance(), context, Penalty(self.distance_weight))
        return problem, adam(
            problem,
            start,
            threat,
            self.steps,
            self.learning_rate,
            accumulate=self.as_published,
            last=self.as_published,
        )
