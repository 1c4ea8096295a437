"""Learning rates that fall where the loss stands still, one a sample."""

from __future__ import annotations

import torch
from torch import Tensor

#: A loss is lower than the best if it is so by this share of it.
THRESHOLD = 1e-4
#: That a rate falls by.
FACTOR = 0.5


class Plateau:
    """torch's ReduceLROnPlateau for each sample alone, so that a batch does not couple them.

    Args:
        count: samples in the whole batch.
        like: a tensor of the rates' precision and device.
        rate: the first learning rate.
        patience: a rate falls after more than so many steps without a lower loss.
    """

    def __init__(self, count: int, like: Tensor, rate: float, patience: int) -> None:
        self.rates = like.new_full((count,), rate)
        self._best = like.new_full((count,), torch.inf)
        self._waited = torch.zeros(count, dtype=torch.int64, device=like.device)
        self._patience = patience

    def update(self, index: Tensor, loss: Tensor) -> None:
        """Take note of the losses of the samples at positions ``index``."""
        best = self._best[index]
        lower = best.isinf() | (loss < best - THRESHOLD * best.abs())
        self._best[index] = torch.where(lower, loss, best)
        waited = torch.where(lower, 0, self._waited[index] + 1)
        tired = waited > self._patience
        self._waited[index] = torch.where(tired, 0, waited)
        self.rates[index] *= torch.where(tired, FACTOR, 1.0).to(loss)
