"""The evidence lower bound of the target image under the attacked image's posterior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat
from torch import Tensor

from genrobust.batch import Context
from genrobust.metrics.likelihood import Likelihood
from genrobust.objectives.draws import FreshNoise
from genrobust.posterior import wide

#: Bernoulli means keep this far from 0 and 1.
SMALLEST = 1e-6


@dataclass(frozen=True)
class TargetELBO:
    """KL(q(z | x_adv) || p) - E log p(x_t | z), z from q(z | x_adv), in nats. Targeted only.

    Args:
        likelihood: ``"bernoulli"`` or ``"gaussian"``.
        std: the Gaussian's standard deviation, in pixel units.
        draws: over which the expectation is taken, the same at each evaluation; 0 takes the
            mean code, with a categorical's softmax.
    """

    goals: ClassVar[tuple[str, ...]] = ("targeted",)

    likelihood: Likelihood = "bernoulli"
    std: PositiveFloat = 1.0
    draws: int = 0

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        batch, target = context.batch, context.target_x
        posterior = context.model.encode(x_adv)
        noise = FreshNoise(batch.seed, "target elbo")
        codes = [
            posterior.rsample(noise(posterior, batch.sample_ids)) for _ in range(self.draws)
        ] or [posterior.relaxed()]
        errors = [self._error(context.model.decode(code), target) for code in codes]
        return posterior.kl_to_prior().sum(1) + torch.stack(errors).mean(0)

    def _error(self, image: Tensor, target: Tensor) -> Tensor:
        """-log p(target | z), (B,)."""
        image, target = wide(image), wide(target)
        if self.likelihood == "bernoulli":
            image = image.clamp(SMALLEST, 1 - SMALLEST)
            return F.binary_cross_entropy(image, target, reduction="none").flatten(1).sum(1)
        constant = math.log(self.std) + 0.5 * math.log(2 * math.pi)
        return (0.5 * ((target - image) / self.std).square() + constant).flatten(1).sum(1)
