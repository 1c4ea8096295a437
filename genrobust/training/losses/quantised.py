"""VQ-VAE: codes from a list that is learned (van den Oord et al. 2017)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from genrobust.models.networks import NetworkSpec
from genrobust.posterior import Codebook, Posterior
from genrobust.training.losses.base import Objective, Weight


class Quantised(Objective):
    """Reconstruction + the entries' way to the features + commitment * the features' way to them.

    Equation 3 of the paper, summed over positions and channels as the reconstruction is over
    pixels. The decoder's gradient reaches the features straight through the choice of an entry.
    """

    kind: Literal["vq"] = "vq"
    commitment: Weight = 0.25

    def code(self, posterior: Posterior, draws: torch.Generator, temperature: float) -> Tensor:
        return posterior.straight_through()

    def __call__(self, posterior: Posterior, step: int) -> Tensor:
        (part,) = posterior.parts
        assert isinstance(part, Codebook)
        entries = part.codebook[part.tokens()]
        learned = F.mse_loss(entries, part.features.detach(), reduction="sum")
        committed = F.mse_loss(part.features, entries.detach(), reduction="sum")
        return (learned + self.commitment * committed) / len(entries)

    def unfit(self, spec: NetworkSpec) -> str | None:
        return (
            None if spec.codebook else "the penalty 'vq' learns a codebook; give network.codebook"
        )
