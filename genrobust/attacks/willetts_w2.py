"""Willetts' latent attack by transport: the target's posterior in Wasserstein distance."""

from __future__ import annotations

from dataclasses import dataclass

from genrobust.attacks.willetts import WillettsSweep
from genrobust.objectives.divergence import LatentWasserstein


@dataclass(frozen=True)
class WillettsW2(WillettsSweep):
    """Minimise W2(q(z | x_adv), q(z | x_t)) + lambda * ||x_adv - x||_2; see WillettsSweep.

    W2 is the 2-Wasserstein distance of the whole posteriors, not squared.

    Reference:
        Willetts, Camuto, Rainforth, Roberts & Holmes 2021, "Improving VAEs' robustness to
        adversarial attack", the latent attack with the Wasserstein distance.
    """

    name = "willetts-w2"

    def objective(self) -> LatentWasserstein:
        return LatentWasserstein()
