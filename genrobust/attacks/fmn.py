"""The fast minimum-norm attack: the smallest change that fools a judge of the reconstruction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from genrobust.attacks.base import Attack
from genrobust.attacks.closest import Closest
from genrobust.attacks.code_switch import switches
from genrobust.attacks.multitarget import other_classes
from genrobust.attacks.settings import Share
from genrobust.batch import Context
from genrobust.objectives.base import Objective
from genrobust.objectives.classifier import JudgeMargin, deployed_margin
from genrobust.objectives.code_switch import CodeSwitch
from genrobust.optimizers import Minimum, Problem, fmn
from genrobust.threat import ThreatModel

#: Halvings of the last step towards the source.
HALVINGS = 10


@dataclass(frozen=True)
class FMN(Attack):
    """Lower the judge's margin under a radius that shrinks after successes and grows after misses.

    A success is one on the deployed path. The gradient is that of several objectives in turn: the
    margin through each surrogate code, the margins of the likeliest other classes, and codes
    that are switched. Of each sample the nearest success of all counts, moved straight towards
    its source as far as it stays one; where there is none, the image of least margin. Inside a
    ball only what lies in it is looked at. The result's loss is the judge's margin.

    Args:
        steps: gradients per objective.
        step_size: Euclidean length of the first step, in pixel units.
        gamma: by which share a radius changes at first, 1 at most. The paper has 0.05 and tunes
            it; with few steps more is better.
        confidence: how far the margin must fall below 0, in logits.
        classes: how many other classes to aim at in untargeted attacks, likeliest first.
        categories: how many switches of a discrete code to try, from the one that lacks least.

    Reference:
        Pintor, Roli, Brendel & Biggio 2021, "Fast minimum-norm adversarial attacks through
        adaptive norm constraints", on the model followed by the judge. The objectives in turn and
        the last step towards the source are genrobust's.
    """

    name = "fmn"
    paper = "Pintor, Roli, Brendel & Biggio 2021"
    norms = ("any",)
    needs_judge = True

    steps: int = 100
    step_size: PositiveFloat = 1.0
    gamma: Share = 0.2
    confidence: NonNegativeFloat = 0.0
    classes: int = 3
    categories: int = 4

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        x = context.batch.x
        goal = Problem.of(deployed_margin, context)
        closest = Closest(goal, x)

        def visit(x_adv: Tensor) -> Tensor:
            margin = goal.loss(x_adv)
            fooled = margin < -self.confidence
            closest.update(goal.index, x_adv, margin, threat.distance(x_adv, x), fooled)
            return fooled

        for part, objective in self._objectives(context):
            fmn(
                replace(goal, objective=objective, context=part),
                x,
                threat,
                self.steps,
                visit,
                step_size=self.step_size,
                gamma=self.gamma,
                below=-self.confidence,
                within=closest.distance,
            )
        shorten(closest.minimum.x.clone(), x, visit)
        return goal, closest.minimum

    def _objectives(self, context: Context) -> Iterator[tuple[Context, Objective]]:
        """What to descend, and on which batch: aimed at other classes it has other labels."""
        yield context, JudgeMargin()
        posterior, batch = context.source_posterior, context.batch
        if posterior.is_discrete:
            yield context, JudgeMargin(temperature=5.0)
            yield context, JudgeMargin("straight-through")
        for p, _ in posterior.discrete():
            for wanted in switches(context, p, self.categories):
                yield context, CodeSwitch(p, wanted, self.confidence + 1)
        if not batch.targeted:
            for aimed in other_classes(context).T[: self.classes]:
                aside = Context(context.model, replace(batch, target_labels=aimed))
                yield aside, JudgeMargin()


def shorten(x_adv: Tensor, x: Tensor, holds: Callable[[Tensor], Tensor]) -> Tensor:
    """Bisect between source and image for the nearest point at which something still holds.

    Args:
        x_adv: images at which it holds, (B, C, H, W); others come back as they are.
        x: their sources.
        holds: whether it does at given images, (B,) bool.

    Returns:
        Images at which it held, (B, C, H, W).

    Example:
        >>> x_adv, x = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
        >>> shorten(x_adv, x, lambda image: image.flatten(1).amax(1) > 0.25).item()
        0.2509765625
    """
    low = x_adv.new_zeros(len(x_adv))
    high = torch.ones_like(low)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        held = holds(_between(x, x_adv, middle))
        high, low = torch.where(held, middle, high), torch.where(held, low, middle)
    return _between(x, x_adv, high)


def _between(x: Tensor, x_adv: Tensor, share: Tensor) -> Tensor:
    return x + share.view(-1, *[1] * (x.ndim - 1)) * (x_adv - x)
