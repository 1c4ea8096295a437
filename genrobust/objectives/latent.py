"""Objectives on the encoder alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from genrobust.batch import Context
from genrobust.distance import euclidean


@dataclass(frozen=True)
class LatentDistance:
    """The Euclidean distance of means and logits to the target's, or away from the source's.

    ||h(x_adv) - h(x_t)||_2 with h(x) = (means, logits): the thesis' form of the latent attack of
    Kos, Fischer & Song 2018. Untargeted it is -||h(x_adv) - h(x)||_2.
    """

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        found = context.model.encode(x_adv).vector()
        if context.batch.targeted:
            return euclidean(found, context.target_posterior.vector())
        return -euclidean(found, context.source_posterior.vector())


@dataclass(frozen=True)
class SquaredLatentDistance:
    """The square of :class:`LatentDistance`: ||h(x_adv) - h(x_t)||_2^2 (Sabour et al. 2016).

    Untargeted it is -||h(x_adv) - h(x)||_2^2.
    """

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        found = context.model.encode(x_adv).vector()
        if context.batch.targeted:
            return (found - context.target_posterior.vector()).square().sum(1)
        return -(found - context.source_posterior.vector()).square().sum(1)
