"""Move the code among the training codes of another class, then finish by the judge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genrobust.attacks.base import Attack
from genrobust.attacks.search import BestOf, restarted_apgd
from genrobust.batch import Context
from genrobust.models.model import Surrogate
from genrobust.objectives.classifier import JudgeMargin
from genrobust.objectives.neighbours import NeighbourMargin
from genrobust.optimizers import Minimum, Problem, apgd
from genrobust.threat import ThreatModel

#: No kernel is narrower, where the codes of two classes coincide.
NARROWEST = 1e-6


@dataclass(frozen=True)
class Neighbours(Attack):
    """Class after class, nearest first: towards all its training codes at once, then the judge.

    A judge that is sure of what it sees gives no direction: on most sources that stand, its margin
    is where it was. A single nearest code (``nearest``) gives one, though not the easiest. The
    density of a class's codes does, and from where it leads the judge's margin has a slope.

    Args:
        steps: gradients per class, half of them on the codes, half on the judge.
        classes: how many other classes, nearest first.
        confidence: how far the judge's margin must fall below 0, in logits, before a sample is
            done.
        surrogate: what stands in for a categorical's argmax where the judge looks.

    Reference:
        genrobust; the density is what Sitawarin & Wagner 2019, "On the robustness of deep k-nearest
        neighbors", attack such classifiers by.
    """

    name = "neighbours"
    paper = "genrobust"
    needs_ball = True
    norms = ("any",)
    needs_judge = True
    needs_references = True

    steps: int = 100
    classes: int = 9
    confidence: float = 4.0
    surrogate: Surrogate = "softmax"

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        best = BestOf(context, self.confidence)
        approach, finish = self.steps - self.steps // 2, self.steps // 2
        for objective, there in _towards(context, self.classes):
            unbroken = best.unbroken()

            def run(
                part: Context, objective: NeighbourMargin = objective
            ) -> tuple[Problem, Minimum]:
                problem, found = restarted_apgd(objective, part, threat, approach, 1)
                if finish:
                    problem = replace(problem, objective=JudgeMargin(self.surrogate))
                    found = apgd(problem, found.x, threat, finish, -self.confidence)
                return problem, found

            best.search(run, unbroken[there[unbroken]])
        return best.problem, best.minimum


@torch.no_grad()
def _towards(context: Context, count: int) -> Iterator[tuple[NeighbourMargin, Tensor]]:
    """For each of the nearest other classes, or for the target's, an objective, and whose it is.

    No image is led to a class that the references have no image of.
    """
    assert context.batch.references is not None, "attacks check that they have references"
    images, labels = context.batch.references
    codes = torch.cat([context.model.encode(chunk).vector() for chunk in images.split(250)])
    classes = labels.unique()
    apart = torch.cdist(context.source_posterior.vector(), codes)
    nearest = torch.stack([apart[:, labels == c].amin(1) for c in classes], 1)
    batch = context.batch
    if batch.targeted:
        assert batch.target_labels is not None, "attacks check that they have target labels"
        open_to = classes == batch.target_labels[:, None]
    else:
        assert batch.labels is not None, "attacks check that they have labels"
        open_to = classes != batch.labels[:, None]
    order = nearest.masked_fill(~open_to, torch.inf).argsort(1)
    for column in order[:, : min(count, int(open_to.sum(1).max()))].T:
        width = nearest.gather(1, column[:, None])[:, 0].clamp_min(NARROWEST)
        aimed, ids = classes[column], batch.sample_ids
        objective = NeighbourMargin(
            codes,
            labels,
            dict(zip(ids, aimed.tolist(), strict=True)),
            dict(zip(ids, width.tolist(), strict=True)),
        )
        yield objective, open_to.gather(1, column[:, None])[:, 0]
