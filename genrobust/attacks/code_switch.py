"""Switch a discrete code: the attack for models whose argmax or codebook hides the gradient."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import NonNegativeFloat, PositiveFloat

from genrobust.attacks.base import Attack
from genrobust.attacks.search import BestOf, restarted_apgd
from genrobust.batch import Context
from genrobust.errors import GenrobustError
from genrobust.objectives.code_switch import CodeSwitch as Objective
from genrobust.optimizers import Minimum, Problem
from genrobust.posterior import Discrete, Posterior
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class CodeSwitch(Attack):
    """Try switch after switch; for each, attack the code's scores and the judge at once.

    Untargeted, the entries but the source's own, from the one that lacks least: a categorical's
    categories in the order of the source's logits, a codebook's second-nearest entries. Targeted,
    a single categorical's in the order of the target image's logits, its own first; of codes with
    several positions, all of the target's, then the half of these that lacks least, and so on.
    Where labels alone say what to aim at, the switches are those of an untargeted attack, and the
    judge is led to the label.

    Args:
        steps: gradients per switch.
        categories: how many switches to try for each discrete part.
        restarts: random starts of each switch.
        confidence: how far the judge's margin must fall below 0, in logits.
        patience: a sample is given up in a switch where this many times its pace would not bring
            the loss to 0 in the steps left; None: none is.

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
    restarts: int = 1
    confidence: NonNegativeFloat = 4.0
    patience: PositiveFloat | None = None

    def applies_to(self, posterior: Posterior) -> bool:
        return posterior.is_discrete

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        clean = context.source_posterior
        if not clean.is_discrete:
            raise GenrobustError(
                "the attack 'code-switch' switches discrete codes, and this model has none; use "
                "'classifier'"
            )
        best = BestOf(context, self.confidence)
        for p, _ in clean.discrete():
            for wanted in switches(context, p, self.categories):
                objective = Objective(p, wanted, self.confidence)

                def run(
                    unbroken: Context, objective: Objective = objective
                ) -> tuple[Problem, Minimum]:
                    stop = -self.confidence + 1e-3
                    return restarted_apgd(
                        objective,
                        unbroken,
                        threat,
                        self.steps,
                        self.restarts,
                        stop,
                        self.patience,
                    )

                best.search(run)
        return best.problem, best.minimum


def switches(context: Context, part: int, count: int) -> list[dict[int, list[int]]]:
    """The switches of one discrete part to try, in order: by sample id, as the objective takes."""
    source = context.source_posterior.parts[part]
    assert isinstance(source, Discrete)
    if context.batch.target_x is not None:
        target = context.target_posterior.parts[part]
        assert isinstance(target, Discrete)
        wanted = source.switches_towards(target, count)
    else:
        wanted = source.switches(count)
    ids = context.batch.sample_ids
    return [dict(zip(ids, each, strict=True)) for each in wanted.transpose(0, 1).tolist()]
