"""The best picture that does not look at its input: what a reconstruction is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.data.base import Images

#: The first so many images of a split stand for it.
COUNT = 1000


@dataclass(frozen=True, eq=False)
class Constant:
    """The mean of a data set's images, without the one that it is compared with.

    Args:
        total: the sum of the first images of the split, (C, H, W) float64.
        count: how many they are.
    """

    total: Tensor
    count: int

    @classmethod
    def of(cls, images: Images) -> Constant:
        """Of a split: of its first 1,000 images."""
        count = min(COUNT, len(images))
        total = torch.zeros(images.shape, dtype=torch.float64)
        for start in range(0, count, 100):
            total += images.take(range(start, min(start + 100, count))).double().sum(0)
        return cls(total, count)

    def beside(self, x: Tensor, sample_ids: Sequence[int]) -> Tensor:
        """For each of these images of the split, (B, C, H, W), the mean of the others.

        An image that is alone in its split has no others; its own mean value stands for them.
        """
        if self.count == 1 and tuple(sample_ids) == (0,):
            return x.mean((1, 2, 3), keepdim=True).expand_as(x)
        inside = (torch.tensor(sample_ids) < self.count).view(-1, 1, 1, 1)
        own = torch.where(inside, x.cpu().double(), 0.0)
        return ((self.total - own) / (self.count - inside.double())).to(x)
