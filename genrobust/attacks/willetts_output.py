"""Willetts' output attack: make the target likely under the attacked image's posterior."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveFloat

from genrobust.attacks.willetts import WillettsSweep
from genrobust.metrics.likelihood import Likelihood
from genrobust.objectives.elbo import TargetELBO


@dataclass(frozen=True)
class WillettsOutput(WillettsSweep):
    """Maximise the target's ELBO under q(z | x_adv), less lambda * ||x_adv - x||_2.

    Minimised is KL(q(z | x_adv) || p) - E log p(x_t | z) + the penalty; see WillettsSweep for the
    search and its settings. The paper's expectation is over draws of z; the default here is the
    mean code, which L-BFGS-B can follow.

    Args:
        likelihood: ``"bernoulli"`` or ``"gaussian"``.
        std: the Gaussian's standard deviation, in pixel units.
        draws: over which the expectation is taken, fixed for each sample; 0 is the mean code.

    Reference:
        Willetts, Camuto, Rainforth, Roberts & Holmes 2021, "Improving VAEs' robustness to
        adversarial attack", the output attack.
    """

    name = "willetts-output"

    likelihood: Likelihood = "bernoulli"
    std: PositiveFloat = 1.0
    draws: int = 0

    def objective(self) -> TargetELBO:
        return TargetELBO(self.likelihood, self.std, self.draws)
