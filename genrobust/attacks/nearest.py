"""Aim at the training images of other classes that lie nearest in the latent space."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from genrobust.attacks.base import Attack
from genrobust.attacks.search import BestOf, restarted_apgd
from genrobust.batch import Context
from genrobust.objectives.base import Objective
from genrobust.objectives.latent import LatentDistance
from genrobust.objectives.output import OutputDistance
from genrobust.optimizers import Minimum, Problem, falling
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class Nearest(Attack):
    """The latent or the output attack, at the nearest image of each of the nearest classes.

    A latent attack with an arbitrary target fails where the target is far; the nearest code of
    another class is the easiest to reach.

    Args:
        steps: gradients per target.
        classes: how many other classes, nearest first.
        objective: ``"latent"`` or ``"output"``.
        confidence: how far the judge's margin must fall below 0, in logits, before a sample is
            done.
        search_by: ``"adaptive"`` PGD, or by ``"falling"`` steps, which find more in few.

    Reference:
        genrobust; the objectives are those of Kos, Fischer & Song 2018 and of Gondim-Ribeiro,
        Tabacof & Valle 2018.
    """

    name = "nearest"
    paper = "genrobust"
    needs_ball = True
    goals = ("untargeted",)
    norms = ("any",)
    needs_judge = True
    needs_references = True

    steps: int = 100
    classes: int = 3
    objective: Literal["latent", "output"] = "latent"
    confidence: NonNegativeFloat = 4.0
    search_by: Literal["adaptive", "falling"] = "adaptive"

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        references = context.batch.references
        assert references is not None, "the base class checks it"
        images, labels = references
        objective: Objective = LatentDistance() if self.objective == "latent" else OutputDistance()
        best = BestOf(context, self.confidence)
        order = _nearest_of_other_classes(context, labels)
        for rank in range(min(self.classes, order.shape[1])):
            unbroken = best.unbroken()
            chosen = order[unbroken, rank]

            def run(part: Context, chosen: Tensor = chosen) -> tuple[Problem, Minimum]:
                batch = replace(part.batch, target_x=images[chosen], target_labels=labels[chosen])
                aimed = Context(part.model, batch)
                if self.search_by == "adaptive":
                    return restarted_apgd(objective, aimed, threat, self.steps, 1)
                problem = Problem.of(objective, aimed)
                start = threat.random_start(batch.x, batch.sample_ids, batch.seed)
                return problem, falling(problem, start, threat, self.steps)

            best.search(run, unbroken)
        return best.problem, best.minimum


@torch.no_grad()
def _nearest_of_other_classes(context: Context, labels: Tensor) -> Tensor:
    """For each source, the nearest reference of each other class, nearest class first: (B, k)."""
    sources = context.source_posterior.vector()
    distances = torch.cdist(sources, context.reference_codes())
    assert context.batch.labels is not None
    nearest, positions = [], []
    for c in labels.unique():
        of_class = (labels == c).nonzero()[:, 0]
        distance, position = distances[:, of_class].min(1)
        nearest.append(distance.masked_fill(context.batch.labels == c, torch.inf))
        positions.append(of_class[position])
    order = torch.stack(nearest, 1).argsort(1)[:, :-1]
    return torch.stack(positions, 1).gather(1, order)
