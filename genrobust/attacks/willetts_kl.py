"""Willetts' latent attack: the target's posterior in KL under a swept unsquared penalty."""

from __future__ import annotations

from dataclasses import dataclass

from genrobust.attacks.willetts import WillettsSweep
from genrobust.objectives.divergence import LatentDivergence


@dataclass(frozen=True)
class WillettsKL(WillettsSweep):
    """Minimise KL(q(z | x_adv) || q(z | x_t)) + lambda * ||x_adv - x||_2; see WillettsSweep.

    The divergences of a posterior's parts are summed, as the paper sums those of its layers.
    Autoencoders without a posterior get the squared distance of codes.

    Reference:
        Willetts, Camuto, Rainforth, Roberts & Holmes 2021, "Improving VAEs' robustness to
        adversarial attack", the latent attack.
    """

    name = "willetts-kl"

    def objective(self) -> LatentDivergence:
        return LatentDivergence()
