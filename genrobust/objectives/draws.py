"""Objectives on drawn codes: noise keyed by sample, and the output distance of fresh draws."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genrobust.batch import Context
from genrobust.distance import euclidean
from genrobust.posterior import Posterior
from genrobust.seeding import generator


class FreshNoise:
    """Noise for posteriors that is new at each call, yet a sample's own in any batch.

    Args:
        key: a seed and a purpose.
    """

    def __init__(self, *key: object) -> None:
        self._key = key
        self._streams: dict[int, torch.Generator] = {}

    def __call__(self, posterior: Posterior, sample_ids: Sequence[int]) -> list[Tensor]:
        """The next noise of each sample, as ``posterior.rsample`` takes it."""
        drawn: dict[int, list[Tensor]] = {}
        for position, i in enumerate(sample_ids):
            if i not in self._streams:
                self._streams[i] = generator(*self._key, i)
            if i not in drawn:
                alone = posterior[torch.tensor([position])]
                drawn[i] = alone.draw_noise(self._streams[i])
        return [torch.cat(parts) for parts in zip(*(drawn[i] for i in sample_ids), strict=True)]


class DrawnOutputDistance:
    """Minus ||x_hat(x_adv) - x_hat(x)||_2 with both codes drawn anew at each evaluation.

    Camuto et al. 2021, as coded; untargeted only. Categorical parts are Concrete draws.

    Args:
        seed: of the draws, together with the sample's id.
    """

    def __init__(self, seed: int = 0) -> None:
        self._noise = FreshNoise(seed, "drawn output")

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        ids, clean = context.batch.sample_ids, context.source_posterior
        found = context.model.encode(x_adv)
        image, source = (
            context.model.decode(posterior.rsample(self._noise(posterior, ids)))
            for posterior in (found, clean)
        )
        return -euclidean(image, source)
