"""Random search with square patches: an attack that needs no gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from genrobust.attacks.base import Attack
from genrobust.attacks.settings import Share
from genrobust.batch import Batch, Context
from genrobust.objectives.classifier import deployed_margin
from genrobust.optimizers import Minimum, Problem
from genrobust.seeding import generator
from genrobust.threat import ThreatModel

#: At which share of the queries the patches shrink by half in area (the paper's schedule).
SHRINK_AT = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class Square(Attack):
    """Change a random square to the edge of the ball; keep it if the judge's margin falls.

    It sees only the judge's logits on the deployed reconstruction. Where it beats the gradient
    attacks, their gradients are masked.

    Args:
        queries: forward passes per sample.
        confidence: how far the judge's margin must fall below 0, in logits, before a sample is
            done.
        first_share: the first patches' share of the image's area.

    Reference:
        Andriushchenko et al. 2020, "Square attack: a query-efficient black-box adversarial attack
        via random search". Under L2 the same patches are projected to the ball, in place of the
        paper's windows.
    """

    name = "square"
    paper = "Andriushchenko et al. 2020"
    norms = ("any",)
    needs_ball = True
    needs_judge = True

    queries: int = 300
    confidence: NonNegativeFloat = 4.0
    first_share: Share = 0.3

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        whole = problem = Problem.of(deployed_margin, context)
        batch = context.batch
        streams = [generator("square", batch.seed, i) for i in batch.sample_ids]
        start = torch.stack([_stripes(batch.x[0], stream) for stream in streams]).to(batch.x)
        minimum = Minimum(whole, threat.project(batch.x + threat.eps * start, batch.x))
        minimum.update(whole.index, minimum.x.clone(), whole.loss(minimum.x))
        for query in range(1, self.queries):
            keep = minimum.loss[problem.index] >= -self.confidence
            if not keep.all():
                problem = problem.narrow(keep)
                if not len(problem.index):
                    break
            part: Batch = problem.context.batch
            side = self._side(query, min(part.x.shape[-2:]))
            patches = torch.stack(
                [_patch(part.x[0], side, streams[i]) for i in problem.index.tolist()]
            ).to(part.x)
            current = minimum.x[problem.index]
            moved = torch.where(patches == 0, current, part.x + threat.eps * patches)
            moved = threat.project(moved, part.x)
            minimum.update(problem.index, moved, problem.loss(moved))
        return whole, minimum

    def _side(self, query: int, largest: int) -> int:
        halvings = sum(query >= share * self.queries for share in SHRINK_AT)
        return max(1, round(largest * (self.first_share / 2**halvings) ** 0.5))


def _stripes(image: Tensor, stream: torch.Generator) -> Tensor:
    """Vertical stripes of -1 and 1: the paper's start."""
    channels, height, width = image.shape
    signs = 2.0 * torch.randint(2, (channels, 1, width), generator=stream) - 1
    return signs.expand(channels, height, width)


def _patch(image: Tensor, side: int, stream: torch.Generator) -> Tensor:
    """0 outside a random square, -1 or 1 per channel within."""
    channels, height, width = image.shape
    patch = torch.zeros(channels, height, width)
    top = int(torch.randint(height - side + 1, (1,), generator=stream))
    left = int(torch.randint(width - side + 1, (1,), generator=stream))
    signs = 2.0 * torch.randint(2, (channels, 1, 1), generator=stream) - 1
    patch[:, top : top + side, left : left + side] = signs
    return patch
