"""Khan and Storkey's attack: along the directions that the encoder stretches most."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from pydantic import PositiveFloat
from torch import Tensor

from genrobust.attacks.base import Attack
from genrobust.batch import Context
from genrobust.distance import euclidean
from genrobust.metrics.geometry import pullback_spectrum
from genrobust.objectives.classifier import judge_margin
from genrobust.optimizers import Minimum, Problem
from genrobust.posterior import Gaussian
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class Khan(Attack):
    """Try x + s * lambda_i * u_i and x - s * lambda_i * u_i for the top eigenpairs; keep the worst.

    The eigenpairs are those of the metric that the encoder's means and standard deviations induce
    on images. s runs over a logarithmic grid. A change that leaves a finite ball is scaled down
    to its edge. The worst is told on the deployed path: with a judge and labels by its margin,
    else by ||x_hat(x_adv) - x_hat(x)||_2. The source is among the candidates. The metric is
    counted as one backward pass for each row of its Jacobians.

    Args:
        directions: eigenpairs, from the largest.
        scales: values of s.
        smallest: the least s.
        largest: the greatest s.

    Reference:
        Khan & Storkey 2023, "Adversarial robustness of VAEs through the lens of local geometry",
        the attack along eigenvectors of the pullback metric.
    """

    name = "khan"
    paper = "Khan & Storkey 2023"
    goals = ("untargeted",)
    norms = ("any",)

    directions: int = 5
    scales: int = 40
    smallest: PositiveFloat = 0.1
    largest: PositiveFloat = 10.0

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        x = context.batch.x
        problem = Problem.of(deployed_harm, context)
        best = Minimum(problem, x)
        best.update(problem.index, x, problem.loss(x))
        parts = context.source_posterior.parts
        with_std = any(isinstance(part, Gaussian) for part in parts)
        spectrum = pullback_spectrum(context.model, x, with_std)
        rows = context.source_posterior.vector().shape[1]
        if with_std:
            rows += sum(part.vector().shape[1] for part in parts if isinstance(part, Gaussian))
        problem.forwards.add_(2 if with_std else 1)
        problem.backwards.add_(rows)
        ends = math.log10(self.smallest), math.log10(self.largest)
        scales = torch.logspace(*ends, self.scales, dtype=torch.float64).tolist()
        for i in range(min(self.directions, spectrum.eigenvalues.shape[1])):
            value = spectrum.eigenvalues[:, i].view(-1, *[1] * (x.ndim - 1))
            for signed in (sign * s for s in scales for sign in (1, -1)):
                x_adv = _in_ball(signed * value * spectrum.directions[:, i], x, threat)
                best.update(problem.index, x_adv, problem.loss(x_adv))
        return problem, best


def deployed_harm(x_adv: Tensor, context: Context) -> Tensor:
    """Minus how far the deployed reconstruction moved; with judge and labels, their margin."""
    image = context.model.reconstruct(x_adv)
    if context.batch.judge is not None and context.batch.labels is not None:
        return judge_margin(image, context)
    return -euclidean(image, context.source_reconstruction)


def _in_ball(change: Tensor, x: Tensor, threat: ThreatModel) -> Tensor:
    length = threat.distance(x + change, x).clamp_min(1e-20).view(-1, *[1] * (x.ndim - 1))
    return threat.project(x + change * (threat.eps / length).clamp_max(1), x)
