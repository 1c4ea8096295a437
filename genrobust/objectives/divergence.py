"""Divergences and distances between posteriors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.batch import Context
from genrobust.posterior import Gaussian, Part, exponential, wide

#: Added under the root, whose gradient is then 0 instead of NaN where posteriors agree.
SMALLEST = 1e-24


@dataclass(frozen=True)
class LatentDivergence:
    """KL(q(z | x_adv) || q(z | x_t)) in nats; a part without density gives its squared distance.

    Tabacof, Tavares & Valle 2016 (who use ||z_adv - z_t||^2 for autoencoders) and Gondim-Ribeiro,
    Tabacof & Valle 2018. Untargeted it is -KL(q(z | x_adv) || q(z | x)).

    Args:
        as_published: for Gaussian parts what the code of 2016 sums over latents,
            (s_adv + (m_adv - m_t)^2) / s_t + log v_t - log v_adv - 1/2, with s the standard
            deviation and v the variance. The divergence is
            1/2 ((v_adv + (m_adv - m_t)^2) / v_t + log v_t - log v_adv - 1).
    """

    as_published: bool = False

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        found = context.model.encode(x_adv)
        targeted = context.batch.targeted
        other = context.target_posterior if targeted else context.source_posterior
        pairs = zip(found.parts, other.parts, strict=True)
        total = torch.stack([self._part(a, b) for a, b in pairs]).sum(0)
        return total if targeted else -total

    def _part(self, found: Part, other: Part) -> Tensor:
        if not found.has_density:
            return found.squared_wasserstein2(other)
        if self.as_published and isinstance(found, Gaussian) and isinstance(other, Gaussian):
            more = wide(other.logvar) - wide(found.logvar)
            moved = (wide(found.mean) - wide(other.mean)) * exponential(wide(other.logvar), -0.25)
            return (exponential(more, -0.5) + moved.square() + more - 0.5).flatten(1).sum(1)
        return found.kl(other)


@dataclass(frozen=True)
class LatentWasserstein:
    """W2(q(z | x_adv), q(z | x_t)), the 2-Wasserstein distance: Willetts et al. 2021.

    Untargeted it is -W2(q(z | x_adv), q(z | x)).
    """

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        found = context.model.encode(x_adv)
        targeted = context.batch.targeted
        other = context.target_posterior if targeted else context.source_posterior
        pairs = zip(found.parts, other.parts, strict=True)
        squared = torch.stack([a.squared_wasserstein2(b) for a, b in pairs]).sum(0)
        distance = (squared + SMALLEST).sqrt()
        return distance if targeted else -distance
