"""An objective on codes that nobody trained: among whose training codes a code lies."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.batch import Context


@dataclass(frozen=True, eq=False)
class NeighbourMargin:
    """The log-odds of all other classes against one, by a kernel density of training codes.

    log sum_{i: y_i != c} k(z, z_i) - log sum_{i: y_i = c} k(z, z_i) with a Gaussian kernel k: below
    0 the code lies among those of class c. A judge that is sure of the source's class has hardly a
    gradient there; this has one wherever the code is.

    Args:
        codes: of labelled training images, (N, n).
        labels: their classes, (N,) int64.
        aimed: the class to reach, by sample id.
        width: the kernel's standard deviation, by sample id; above 0.
    """

    codes: Tensor
    labels: Tensor
    aimed: dict[int, int]
    width: dict[int, float]

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        ids = context.batch.sample_ids
        aimed = torch.tensor([self.aimed[i] for i in ids], device=x_adv.device)
        width = torch.tensor([self.width[i] for i in ids], device=x_adv.device)
        centre = self.codes.mean(0)  # about it, numbers are small and differences exact
        codes, z = self.codes - centre, context.model.encode(x_adv).vector() - centre
        # -|z - z_i|^2 / 2 without |z|^2, which is the same in both sums.
        scores = (z @ codes.T - codes.square().sum(1) / 2) / width[:, None].square()
        wanted = self.labels == aimed[:, None]
        others = scores.masked_fill(wanted, -torch.inf).logsumexp(1)
        return others - scores.masked_fill(~wanted, -torch.inf).logsumexp(1)
