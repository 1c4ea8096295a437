"""Move the code among the training codes of another class, then go by the judge."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from genrobust.attacks.base import Attack
from genrobust.attacks.search import BestOf
from genrobust.attacks.settings import Share
from genrobust.batch import Context
from genrobust.models.model import Surrogate
from genrobust.objectives.classifier import JudgeMargin
from genrobust.objectives.neighbours import NeighbourMargin
from genrobust.optimizers import Minimum, Problem, falling
from genrobust.threat import ThreatModel

#: No kernel is narrower, where the codes of two classes coincide.
NARROWEST = 1e-6
#: Gradients towards a class's codes: more of them bring the code hardly nearer.
APPROACH = 6
#: Classes that each sample is led to before it may be given up.
AT_LEAST = 2


@dataclass(frozen=True)
class Neighbours(Attack):
    """Towards all training codes of each other class at once; from there, by the judge.

    A judge that is sure of what it sees gives no direction: on most sources that stand, its margin
    is where it was. A single nearest code (``nearest``) gives one, though not the easiest. The
    density of a class's codes does, and from where it leads the judge's margin has a slope: there
    its search begins, first where its margin is lowest. Both go by steps that fall evenly.

    Args:
        steps: gradients per class on the judge, after a few on the codes.
        classes: how many other classes, nearest first.
        confidence: how far the judge's margin must fall below 0, in logits, before a sample is
            done.
        surrogate: what stands in for a categorical's argmax where the judge looks.
        hope: above 0 and 1 at most. In a ball that is a box, a sample is given up after two classes
            if its margin is no lower than this share of the clean image's, after three if no lower
            than the share's square, and so on; None: none is. In other balls none is either: under
            L2 the margin often has not moved before the class that is reached.

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

    steps: int = 50
    classes: int = 9
    confidence: NonNegativeFloat = 4.0
    surrogate: Surrogate = "softmax"
    hope: Share | None = None

    def expected_passes(self) -> int:
        """Who stands is mostly given up after a class more than each is led to."""
        finished = self.classes if self.hope is None else min(self.classes, AT_LEAST + 1)
        return self.classes * (APPROACH + 1) + finished * self.steps

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        best = BestOf(context, self.confidence)
        hope = self.hope if threat.norm.is_box else None
        classes, judge = _Classes.around(context, self.classes), JudgeMargin(self.surrogate)
        x = context.batch.x
        starts = x.repeat(classes.count, *[1] * x.ndim)
        margins = x.new_full(starts.shape[:2], torch.inf)
        for rank in range(classes.count):
            positions = best.unbroken()
            positions = positions[classes.there[positions, rank]]

            def approach(
                part: Context, rank: int = rank, positions: Tensor = positions
            ) -> tuple[Problem, Minimum]:
                problem = Problem.of(classes.margin(part, positions, rank), part)
                batch = part.batch
                start = threat.random_start(batch.x, batch.sample_ids, batch.seed)
                found = falling(problem, start, threat, APPROACH)
                starts[rank, positions] = found.x
                margins[rank, positions] = replace(problem, objective=judge).loss(found.x)
                return problem, found

            best.search(approach, positions)
        apart, order = margins.sort(0)
        for number, (margin, ranks) in enumerate(zip(apart, order, strict=True)):
            positions = best.unbroken()
            positions = positions[margin[positions].isfinite()]
            if hope is not None and number >= AT_LEAST:
                low = hope ** (number - AT_LEAST + 1) * best.clean[positions]
                positions = positions[best.minimum.loss[positions] < low]

            def finish(
                part: Context, start: Tensor = starts[ranks[positions], positions]
            ) -> tuple[Problem, Minimum]:
                problem = Problem.of(judge, part)
                stop = -self.confidence
                return problem, falling(problem, start, threat, self.steps, stop_below=stop)

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
        labels, codes = batch.references[1], context.reference_codes()
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

    def margin(self, part: Context, positions: Tensor, rank: int) -> NeighbourMargin:
        """Of the samples at ``positions``, which are those of ``part``, to their class of a
        rank."""
        aimed, width = (t[positions, rank].tolist() for t in (self.aimed, self.width))
        ids = part.batch.sample_ids
        return NeighbourMargin(
            self.codes,
            self.labels,
            dict(zip(ids, aimed, strict=True)),
            dict(zip(ids, width, strict=True)),
        )
