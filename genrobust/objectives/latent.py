"""Objectives on the encoder alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from genrobust.attacks.batch import Context


@dataclass(frozen=True)
class LatentDistance:
    """The Euclidean distance of means and logits to the target's, or away from the source's.

    ||h(x_adv) - h(x_t)||_2 with h(x) = (means, logits): the thesis' form of the latent attack of
    Kos, Fischer & Song 2018. Untargeted it is -||h(x_adv) - h(x)||_2.
    """

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        found = context.model.encode(x_adv).vector()
        if context.batch.target_x is not None:
            return distance(found, context.target_posterior.vector())
        return -distance(found, context.source_posterior.vector())


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance per sample, (B,), with a gradient of 0 instead of NaN where a = b."""
    squares = (a - b).flatten(1).square().sum(1)
    return (squares + 1e-24).sqrt()
