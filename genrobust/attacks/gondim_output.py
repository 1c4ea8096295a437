"""Gondim-Ribeiro's output attack: the target as reconstruction under a swept penalty."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveFloat

from genrobust.attacks.gondim import GondimSweep
from genrobust.models.model import Surrogate
from genrobust.objectives.output import SquaredOutputError


@dataclass(frozen=True)
class GondimOutput(GondimSweep):
    """Minimise ||x_t - x_hat(x_adv)||_2^2 + C * ||x_adv - x||_2^2; other settings as GondimSweep.

    The published code reconstructs from draws of the posterior, here from its mean.

    Args:
        surrogate: what stands in for a categorical's argmax while searching.
        temperature: of the softmax surrogate.

    Reference:
        Gondim-Ribeiro, Tabacof & Valle 2018, "Adversarial attacks on variational autoencoders",
        the output attack.
    """

    name = "gondim-output"

    surrogate: Surrogate = "softmax"
    temperature: PositiveFloat = 1.0

    def objective(self) -> SquaredOutputError:
        return SquaredOutputError(self.surrogate, self.temperature)
