"""Whether gradients account for what a loss does on the way to where attacks lead.

A gradient may be true at a source and at an attacked image and another one between them: within
a shell of distances, near the border of a class, where many pixels are at the ball's edge, or where
many images are asked at once. Along the way its integral is the change of the loss.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from genrobust.attacks.differences import cosine
from genrobust.batch import Batch, Context
from genrobust.models.model import GenerativeModel
from genrobust.objectives.classifier import JudgeMargin
from genrobust.optimizers import Problem

#: Parts of a way, so many that honest models are nearly straight within one.
PARTS = 24
#: How many parts are taken together: rounding hides what a short one does.
TOGETHER = (1, 4)


def followed(model: GenerativeModel, batch: Batch, ends: Tensor) -> Tensor:
    """The cosine, over the parts of straight ways, of changes of the margin with integrals of its
    gradient, (B,).

    All images go through the model at once and as they are, as under attack: without noise, which
    tells a mask that it is looked at. Of parts alone or together the larger counts. A random model
    is looked at with one draw, the same for all.

    Args:
        batch: with labels and a judge.
        ends: of the ways from the sources, (B, C, H, W).
    """
    problem = Problem.of(JudgeMargin(), Context(replace(model, draws=1), batch))
    way = ends - batch.x
    margins, slopes = [], []
    for part in range(PARTS + 1):
        with model.keyed("way", batch.seed):
            margin, gradient = problem.gradient(batch.x + part / PARTS * way)
        margins.append(margin.double())
        slopes.append((gradient.nan_to_num().double() * way).flatten(1).sum(1))
    did = torch.stack(margins).diff(dim=0)
    slope = torch.stack(slopes)
    said = slope[:-1] / 2 + slope[1:] / 2  # the trapezoid rule, which suffices where they bend
    cosines = [cosine(_summed(did, n), _summed(said, n), 0) for n in TOGETHER]
    return torch.stack(cosines).amax(0)


def _summed(parts: Tensor, together: int) -> Tensor:
    """So many neighbours of (PARTS, B) summed."""
    return parts.unflatten(0, (-1, together)).sum(1)
