"""Gondim-Ribeiro's latent attack: the target's posterior under a swept penalty."""

from __future__ import annotations

from dataclasses import dataclass

from genrobust.attacks.gondim import GondimSweep
from genrobust.objectives.divergence import LatentDivergence


@dataclass(frozen=True)
class GondimLatent(GondimSweep):
    """Minimise KL(q(z | x_adv) || q(z | x_t)) + C * ||x_adv - x||_2^2; settings as GondimSweep.

    Reference:
        Gondim-Ribeiro, Tabacof & Valle 2018, "Adversarial attacks on variational autoencoders",
        the latent attack.
    """

    name = "gondim-latent"

    def objective(self) -> LatentDivergence:
        return LatentDivergence()
