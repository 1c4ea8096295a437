"""VQ-VAE: codes from a list that is learned (van den Oord et al. 2017)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from genrobust.models.networks import NetworkSpec
from genrobust.posterior import Codebook, Posterior
from genrobust.training.losses.base import Share, Step, TrainingLoss, Weight

#: An entry whose share of the moving averages is less stays where it is.
UNUSED = 1e-6


class Quantised(TrainingLoss):
    """Reconstruction + the entries' way to the features + commitment * the features' way to them.

    Equation 3 of the paper, summed over positions and channels as the reconstruction is over
    pixels. The decoder's gradient reaches the features straight through the choice of an entry.

    With a ``decay`` entries learn by no gradient: each is the moving average of the features that
    chose it, sums and counts apart (appendix A.1, with 0.99), and stays where nothing does.
    """

    kind: Literal["vq"] = "vq"
    commitment: Weight = 0.25
    decay: Share = Field(default=0.0, exclude_if=lambda decay: decay == 0)

    def code(self, posterior: Posterior, draws: torch.Generator, temperature: float) -> Tensor:
        return posterior.straight_through()

    def __call__(self, posterior: Posterior, step: int) -> Tensor:
        (part,) = posterior.parts
        assert isinstance(part, Codebook)
        entries = part.codebook[part.tokens()]
        loss = self.commitment * F.mse_loss(part.features, entries.detach(), reduction="sum")
        if not self.decay:
            loss = loss + F.mse_loss(entries, part.features.detach(), reduction="sum")
        return loss / len(entries)

    def helper(self, spec: NetworkSpec) -> nn.Module | None:
        return _Averages(*spec.codebook) if self.decay and spec.codebook else None

    @torch.no_grad()
    def settle(self, at: Step) -> None:
        if not isinstance(at.helper, _Averages):
            return
        (part,) = at.posterior.parts
        assert isinstance(part, Codebook)
        chosen, features = part.tokens().flatten(), part.features.flatten(0, 1)
        at.helper.counts.mul_(self.decay).add_(
            chosen.bincount(minlength=len(at.helper.counts)), alpha=1 - self.decay
        )
        at.helper.sums.mul_(self.decay).index_add_(0, chosen, features, alpha=1 - self.decay)
        used = at.helper.counts > UNUSED
        at.network.codebook[used] = at.helper.sums[used] / at.helper.counts[used, None]

    def unfit(self, spec: NetworkSpec) -> str | None:
        return (
            None if spec.codebook else "the penalty 'vq' learns a codebook; give network.codebook"
        )


class _Averages(nn.Module):
    """Of each entry: how many features choose it, and their sum."""

    counts: Tensor
    sums: Tensor

    def __init__(self, entries: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(entries))
        self.register_buffer("sums", torch.zeros(entries, channels))
