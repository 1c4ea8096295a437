"""The output attack: make the reconstruction the target's, or far from one's own."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveFloat

from genrobust.attacks.base import Attack
from genrobust.attacks.search import restarted_apgd
from genrobust.batch import Context
from genrobust.models.model import Surrogate
from genrobust.objectives.output import OutputDistance
from genrobust.optimizers import Minimum, Problem
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class Output(Attack):
    """Move the reconstruction by adaptive PGD: to the target's, or as far as possible.

    Args:
        steps: gradients per restart.
        restarts: random starts.
        surrogate: what stands in for a categorical's argmax while searching.
        temperature: of the softmax surrogate.

    Reference:
        Gondim-Ribeiro, Tabacof & Valle 2018, "Adversarial attacks on variational autoencoders"
        (targeted); Camuto et al. 2021, "Towards a theoretical understanding of the robustness of
        variational autoencoders" (untargeted, maximum damage). Searched by APGD.
    """

    name = "output"
    paper = "Gondim-Ribeiro, Tabacof & Valle 2018"
    norms = ("any",)
    needs_ball = True

    steps: int = 100
    restarts: int = 1
    surrogate: Surrogate = "softmax"
    temperature: PositiveFloat = 1.0

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        objective = OutputDistance(self.surrogate, self.temperature)
        return restarted_apgd(objective, context, threat, self.steps, self.restarts)
