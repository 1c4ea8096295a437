"""No attack: a random point of the threat model. What it changes is a floor under every score."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.attacks.base import Attack
from genrobust.batch import Context
from genrobust.optimizers.problem import Minimum, Problem
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class Noise(Attack):
    """One random point of the ball per source; no gradient, no judge."""

    name = "noise"
    paper = "baseline"
    norms = ("any",)
    needs_ball = True

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        batch = context.batch
        problem = Problem.of(_nothing, context)
        minimum = Minimum(problem, threat.random_start(batch.x, batch.sample_ids, batch.seed))
        minimum.loss = torch.zeros_like(minimum.loss)
        return problem, minimum


def _nothing(x_adv: Tensor, context: Context) -> Tensor:
    return x_adv.new_zeros(len(x_adv))
