"""The norm L1: the sum of the changes of all pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genrobust.norms import Norm

#: The power of a pixel's slope by which its share in a step goes.
SHARPNESS = 4


class L1(Norm):
    """The sum of the absolute changes.

    The box comes first and the ball second, so that a pixel that can change no further leaves the
    radius to the others.
    """

    name = "l1"
    label = ascii_label = "L1"

    def length(self, change: Tensor) -> Tensor:
        return change.flatten(1).abs().sum(1)

    def dual(self, gradient: Tensor) -> Tensor:
        return gradient.flatten(1).abs().amax(1)

    def steepest(self, gradient: Tensor, x: Tensor) -> Tensor:
        """Changes of the pixels with the largest slopes, by a power of the slope.

        The largest alone would be steeper yet, but the box soon stops a single pixel.
        """
        stuck = ((x <= 0) & (gradient > 0)) | ((x >= 1) & (gradient < 0))
        slope = gradient.masked_fill(stuck, 0).flatten(1)
        share = slope / slope.abs().amax(1, keepdim=True).clamp_min(1e-38)
        change = share.sign() * share.abs() ** SHARPNESS
        return (change / change.abs().sum(1, keepdim=True).clamp_min(1e-20)).view_as(gradient)

    def project(self, x_adv: Tensor, x: Tensor, radius: float | Tensor) -> Tensor:
        """To the nearest point of the ball, by sorting (Duchi et al. 2008, Figure 1)."""
        change = x_adv.clamp(0, 1) - x
        rows = change.flatten(1).abs()
        sizes = torch.as_tensor(radius).to(rows).flatten()[:, None]
        largest = rows.sort(1, descending=True).values
        surplus = largest.cumsum(1) - sizes
        count = torch.arange(1, rows.shape[1] + 1, device=rows.device)
        last = (largest * count > surplus).sum(1, keepdim=True).clamp_min(1)
        threshold = surplus.gather(1, last - 1) / last
        inside = rows.sum(1, keepdim=True) <= sizes
        kept = torch.where(inside, rows, (rows - threshold).clamp_min(0))
        return (x + change.sign() * kept.view_as(change)).clamp(0, 1)

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        change = torch.randn(*shape, generator=generator)
        return change / change.abs().sum().clamp_min(1e-12)

    def reach(self, pixels: int) -> float:
        return float(pixels)
