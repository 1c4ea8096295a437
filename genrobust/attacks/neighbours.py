"""Move the code among the training codes of another class, then finish by the judge."""

from __future__ import annotations

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
    """Class after class, nearest first: towards all its training codes at once; then the judge.

    A judge that is sure of what it sees gives no direction: on most sources that stand, its margin
    is where it was. A single nearest code (``nearest``) gives one, though not the easiest. The
    density of a class's codes does, and from where it leads the judge's margin has a slope: there
    its search begins, first where its margin is lowest.

    Args:
        steps: gradients per class: a quarter on the codes, and for finalists another one, then half
            on the judge.
        classes: how many other classes, nearest first.
        finalists: how many of them, by the judge's margin after the first quarter.
        confidence: how far the judge's margin must fall below 0, in logits, before a sample is
            done.
        surrogate: what stands in for a categorical's argmax where the judge looks.
        patience: of the judge's half, as of ``classifier``.

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
    finalists: int = 9
    confidence: float = 4.0
    surrogate: Surrogate = "softmax"
    patience: float | None = None

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        best = BestOf(context, self.confidence)
        classes, judge = _Classes.around(context, self.classes), JudgeMargin(self.surrogate)
        x = context.batch.x
        starts = x.repeat(classes.count, *[1] * x.ndim)
        margins = x.new_full(starts.shape[:2], torch.inf)
        look = self.steps // 4 or 1
        for rank in range(classes.count):
            positions = best.unbroken()
            positions = positions[classes.there[positions, rank]]

            def approach(
                part: Context, rank: int = rank, positions: Tensor = positions
            ) -> tuple[Problem, Minimum]:
                towards = classes.margin(part, positions, torch.full_like(positions, rank))
                problem, found = restarted_apgd(towards, part, threat, look, 1)
                starts[rank, positions] = found.x
                margins[rank, positions] = replace(problem, objective=judge).loss(found.x)
                return problem, found

            best.search(approach, positions)
        apart, order = margins.sort(0)
        for margin, ranks in zip(apart[: self.finalists], order, strict=False):
            positions = best.unbroken()
            positions = positions[margin[positions].isfinite()]

            def finish(
                part: Context, positions: Tensor = positions, ranks: Tensor = ranks[positions]
            ) -> tuple[Problem, Minimum]:
                problem = Problem.of(classes.margin(part, positions, ranks), part)
                start, half = starts[ranks, positions], self.steps // 2
                found = apgd(problem, start, threat, self.steps - half - look)
                problem = replace(problem, objective=judge)
                return problem, apgd(
                    problem, found.x, threat, half, -self.confidence, self.patience
                )

            best.search(finish, positions)
        return best.problem, best.minimum


@dataclass(frozen=True, eq=False)
class _Classes:
    """The other classes of each source, nearest first, or its target's.

    Args:
        codes, labels: of the references, (N, n) and (N,).
        aimed, width: classes and the distances of their nearest codes, (B, K).
        there: whether it is one to go to, (B, K): no image is led to a class that the references
            have no image of.
    """

    codes: Tensor
    labels: Tensor
    aimed: Tensor
    width: Tensor
    there: Tensor

    @staticmethod
    @torch.no_grad()
    def around(context: Context, count: int) -> _Classes:
        """The nearest ``count`` of them."""
        batch = context.batch
        assert batch.references is not None, "attacks check that they have references"
        images, labels = batch.references
        codes = torch.cat([context.model.encode(chunk).vector() for chunk in images.split(250)])
        classes = labels.unique()
        apart = torch.cdist(context.source_posterior.vector(), codes)
        nearest = torch.stack([apart[:, labels == c].amin(1) for c in classes], 1)
        if batch.targeted:
            assert batch.target_labels is not None, "attacks check that they have target labels"
            there = classes == batch.target_labels[:, None]
        else:
            assert batch.labels is not None, "attacks check that they have labels"
            there = classes != batch.labels[:, None]
        order = nearest.masked_fill(~there, torch.inf).argsort(1)
        order = order[:, : min(count, int(there.sum(1).max()))]
        width = nearest.gather(1, order).clamp_min(NARROWEST)
        return _Classes(codes, labels, classes[order], width, there.gather(1, order))

    @property
    def count(self) -> int:
        return self.aimed.shape[1]

    def margin(self, part: Context, positions: Tensor, ranks: Tensor) -> NeighbourMargin:
        """Of the samples at ``positions``, which are those of ``part``, to their classes of
        ``ranks``."""
        aimed, width = (t[positions, ranks].tolist() for t in (self.aimed, self.width))
        ids = part.batch.sample_ids
        return NeighbourMargin(
            self.codes,
            self.labels,
            dict(zip(ids, aimed, strict=True)),
            dict(zip(ids, width, strict=True)),
        )
