"""The classifier attack: fool a judge that looks at the reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import NonNegativeFloat, PositiveFloat

from genrobust.attacks.base import Attack
from genrobust.attacks.search import restarted_apgd
from genrobust.batch import Context
from genrobust.models.model import Surrogate
from genrobust.objectives.classifier import JudgeMargin
from genrobust.optimizers import Minimum, Problem
from genrobust.posterior import Posterior
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class Classifier(Attack):
    """Lower the judge's margin on the reconstruction by adaptive PGD.

    Args:
        steps: gradients per restart.
        restarts: random starts.
        confidence: how far the margin must fall below 0, in logits, before a sample is done;
            judges that the attack does not see are fooled only by clear cases.
        surrogate: what stands in for a categorical's argmax while searching.
        temperature: of the softmax surrogate.
        patience: a sample is given up in a restart where this many times its pace would not bring
            the loss to 0 in the steps left; None: none is.

    Reference:
        Kos, Fischer & Song 2018, with the margin loss and the confidence of Carlini & Wagner 2017
        and the classifier on pixels rather than codes. Searched by APGD.
    """

    name = "classifier"
    paper = "Kos, Fischer & Song 2018"
    norms = ("any",)
    needs_ball = True
    needs_judge = True

    steps: int = 100
    restarts: int = 1
    confidence: NonNegativeFloat = 4.0
    surrogate: Surrogate = "softmax"
    temperature: PositiveFloat = 1.0
    patience: PositiveFloat | None = None

    def applies_to(self, posterior: Posterior) -> bool:
        # Without a categorical all surrogates are one: an ensemble needs it but once.
        is_first = self.surrogate == "softmax" and self.temperature == 1
        return is_first or posterior.is_discrete

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        objective = JudgeMargin(self.surrogate, self.temperature)
        stop = -self.confidence
        return restarted_apgd(
            objective, context, threat, self.steps, self.restarts, stop, self.patience
        )
