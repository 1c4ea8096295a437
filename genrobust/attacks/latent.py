"""The latent attack: make the encoder give the target's means and logits."""

from __future__ import annotations

from dataclasses import dataclass

from genrobust.attacks.base import Attack
from genrobust.attacks.search import restarted_apgd
from genrobust.batch import Context
from genrobust.objectives.latent import LatentDistance
from genrobust.optimizers import Minimum, Problem
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class Latent(Attack):
    """Match the target's latent code, or leave one's own, by adaptive PGD.

    Args:
        steps: gradients per restart.
        restarts: random starts.

    Reference:
        Kos, Fischer & Song 2018, "Adversarial examples for generative models": its latent attack
        with a hard ball in place of the penalty, and with the categorical's logits as in Sootla
        2018. Searched by APGD (Croce & Hein 2020).
    """

    name = "latent"
    paper = "Kos, Fischer & Song 2018"
    norms = ("any",)
    needs_ball = True

    steps: int = 100
    restarts: int = 1

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        return restarted_apgd(LatentDistance(), context, threat, self.steps, self.restarts)
