"""Switch a categorical code: the attack for models whose argmax hides the gradient."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from genrobust.attacks.base import Attack
from genrobust.attacks.search import BestOf, restarted_apgd
from genrobust.batch import Context
from genrobust.errors import GenrobustError
from genrobust.objectives.code_switch import CodeSwitch as Objective
from genrobust.optimizers import Minimum, Problem
from genrobust.posterior import Categorical, Posterior
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class CodeSwitch(Attack):
    """Try category after category; for each, attack logits and judge at once.

    Untargeted, the categories but the source's own, in the order of the source's logits;
    targeted, in the order of the target image's logits, its own first. Where labels alone say what
    to aim at, the categories are those of an untargeted attack, and the judge is led to the label.

    Args:
        steps: gradients per category.
        categories: how many categories to try for each categorical.
        confidence: how far the judge's margin must fall below 0, in logits.

    Reference:
        genrobust; the hinge on logits is Carlini & Wagner's (2017) on the code in place of the
        class.
    """

    name = "code-switch"
    paper = "genrobust"
    norms = ("any",)
    needs_ball = True
    needs_judge = True

    steps: int = 100
    categories: int = 9
    confidence: float = 4.0

    def applies_to(self, posterior: Posterior) -> bool:
        return posterior.is_discrete

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        clean = context.source_posterior
        if not clean.is_discrete:
            raise GenrobustError(
                "the attack 'code-switch' flips categorical codes, and this model has none; use "
                "'classifier'"
            )
        best = BestOf(context, self.confidence)
        for p, part in enumerate(clean.parts):
            if not isinstance(part, Categorical):
                continue
            order = category_order(context, p)
            for rank in range(min(self.categories, order.shape[1])):
                ids = context.batch.sample_ids
                wanted = dict(zip(ids, order[:, rank].tolist(), strict=True))
                objective = Objective(p, wanted, self.confidence)

                def run(
                    standing: Context, objective: Objective = objective
                ) -> tuple[Problem, Minimum]:
                    stop = -self.confidence + 1e-3
                    return restarted_apgd(objective, standing, threat, self.steps, 1, stop)

                best.search(run)
        return best.problem, best.minimum


def category_order(context: Context, part: int) -> Tensor:
    """The categories to try for each sample, in order: (B, K) or (B, K - 1)."""
    if context.batch.target_x is not None:
        return _logits(context.target_posterior, part).argsort(1, descending=True)
    return _logits(context.source_posterior, part).argsort(1, descending=True)[:, 1:]


def _logits(posterior: Posterior, part: int) -> Tensor:
    categorical = posterior.parts[part]
    assert isinstance(categorical, Categorical)
    return categorical.logits
