"""Kuzina's unsupervised attack of 2021: the direction that moves the latent means most."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from pydantic import PositiveFloat
from torch import Tensor

from genrobust.attacks.base import Attack
from genrobust.batch import Context
from genrobust.metrics.geometry import encoder_jacobian
from genrobust.norms import unit
from genrobust.objectives.latent import LatentDistance
from genrobust.optimizers import Minimum, Problem
from genrobust.seeding import noise_like
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class KuzinaLinearised(Attack):
    """Maximise ||J(x) e||_2 by gradient steps, go along the unit e, and again from there.

    J is the Jacobian of the means (and centred logits), made once for each hop; e starts as
    noise, and is brought back to length 1 after each step of learning_rate / (i // 2 + 1). Of all
    points on all chains the one whose means are farthest from the source's is returned. Each
    hop's J is counted as one backward pass for each latent.

    Args:
        steps: along the gradient of ||J e||_2, for each hop.
        learning_rate: of the first two steps, in units of the unit e.
        hops: changes one after another.
        chains: random beginnings.
        length: of each hop in L2, in pixel units. Under a finite eps each hop has the ball's
            radius in its norm instead, and its end is projected.
        start_noise: standard deviation of the first e, above 0: from 0 no step leads away.
        as_published: each hop ends in (image - min) / (max - min), with the image's own extremes,
            where the default cuts to the box; a finite eps has the last word all the same.

    Reference:
        Kuzina, Welling & Tomczak 2021, "Diagnosing vulnerability of variational auto-encoders to
        adversarial attacks", the unsupervised attack.
    """

    name = "kuzina-linearised"
    paper = "Kuzina, Welling & Tomczak 2021"
    goals = ("untargeted",)
    norms = ("any",)

    steps: int = 300
    learning_rate: PositiveFloat = 10.0
    hops: int = 2
    chains: int = 3
    length: PositiveFloat = 0.9
    start_noise: PositiveFloat = 0.2
    as_published: bool = False

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        batch = context.batch
        problem = Problem.of(LatentDistance(), context)
        best = Minimum(problem, batch.x)
        for chain in range(self.chains):
            x = batch.x
            for hop in range(self.hops):
                jacobian = encoder_jacobian(context.model, x)
                problem.forwards.add_(1)
                problem.backwards.add_(jacobian.shape[1])
                direction = self._ascend(jacobian, self._noise(context, chain, hop))
                x = self._hop(x, direction.view_as(x), batch.x, threat)
                best.update(problem.index, x, problem.loss(x))
        return problem, best

    def _noise(self, context: Context, chain: int, hop: int) -> Tensor:
        batch, key = context.batch, ("kuzina", context.batch.seed, chain, hop)
        noise = noise_like(batch.x.flatten(1), batch.sample_ids, *key, draw=torch.randn)
        return self.start_noise * noise

    def _ascend(self, jacobian: Tensor, e: Tensor) -> Tensor:
        """A unit e, (B, pixels), that J makes long."""
        e = unit(e)
        for i in range(self.steps):
            moved = unit((jacobian @ e[..., None])[..., 0])
            slope = (jacobian.mT @ moved[..., None])[..., 0]
            e = unit(e + self.learning_rate / (i // 2 + 1) * slope)
        return e

    def _hop(self, x: Tensor, direction: Tensor, source: Tensor, threat: ThreatModel) -> Tensor:
        size: Tensor | float = self.length
        if math.isfinite(threat.eps):
            size = threat.eps / threat.distance(direction, torch.zeros_like(direction))
            size = size.view(-1, *[1] * (x.ndim - 1))
        moved = x + size * direction
        if self.as_published:
            dims = tuple(range(1, x.ndim))
            low, high = moved.amin(dims, keepdim=True), moved.amax(dims, keepdim=True)
            moved = (moved - low) / (high - low).clamp_min(1e-12)
        return threat.project(moved, source)
