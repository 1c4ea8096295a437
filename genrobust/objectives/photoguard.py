"""The encoder attack's objective of Salman et al. 2023."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.batch import Context
from genrobust.distance import euclidean


@dataclass(frozen=True)
class EncoderDistance:
    """||h(x_adv) - h(x_t)||_2 with h the means and centred logits; untargeted ||h(x_adv)||_2.

    Without a target the code is to become that of nothing, all zeros.
    """

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        found = context.model.encode(x_adv).vector()
        targeted = context.batch.targeted
        wanted = context.target_posterior.vector() if targeted else torch.zeros_like(found)
        return euclidean(found, wanted)
