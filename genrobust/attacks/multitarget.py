"""Many targets in turn: an untargeted attack that does not bet on the nearest class."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from genrobust.attacks.base import Attack
from genrobust.attacks.search import BestOf, restarted_apgd
from genrobust.batch import Context
from genrobust.models.model import Surrogate
from genrobust.objectives.classifier import JudgeMargin
from genrobust.optimizers import Minimum, Problem
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class MultiTarget(Attack):
    """Aim the judge at each of the likeliest other classes in turn.

    Args:
        steps: gradients per class.
        classes: how many other classes, in the order of the judge's logits on the clean
            reconstruction.
        confidence: how far the judge's margin must fall below 0, in logits.
        surrogate: what stands in for a categorical's argmax while searching.

    Reference:
        Gowal et al. 2019, "An alternative surrogate loss for PGD-based adversarial testing";
        targeted APGD in Croce & Hein 2020; here on the reconstruction.
    """

    name = "multi-target"
    paper = "Gowal et al. 2019"
    needs_ball = True
    goals = ("untargeted",)
    norms = ("any",)
    needs_judge = True

    steps: int = 100
    classes: int = 9
    confidence: NonNegativeFloat = 4.0
    surrogate: Surrogate = "softmax"

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        best = BestOf(context, self.confidence)
        order = other_classes(context)
        for rank in range(min(self.classes, order.shape[1])):
            unbroken = best.unbroken()
            aimed = order[unbroken, rank]

            def run(part: Context, aimed: Tensor = aimed) -> tuple[Problem, Minimum]:
                targeted = Context(part.model, replace(part.batch, target_labels=aimed))
                stop = -self.confidence
                objective = JudgeMargin(self.surrogate)
                return restarted_apgd(objective, targeted, threat, self.steps, 1, stop)

            best.search(run, unbroken)
        return best.problem, best.minimum


@torch.no_grad()
def other_classes(context: Context) -> Tensor:
    """Classes but the source's, likeliest first, (B, classes - 1)."""
    batch = context.batch
    assert batch.judge is not None
    assert batch.labels is not None
    logits = batch.judge.logits(context.source_reconstruction)
    logits = logits.scatter(1, batch.labels[:, None], -torch.inf)
    return logits.argsort(1, descending=True)[:, :-1]
