"""A data set that is made, not read: a soft spot of light on one side."""

from __future__ import annotations

from pathlib import Path

import torch

from genrobust.data import Images


class Spots:
    """A spot (1, 32, 32) left or right of the middle, somewhere else in every image."""

    name = "demo-spots"
    classes = ("left", "right")
    image_shape = (1, 32, 32)

    def load(self, split: str, root: Path | None) -> Images:
        labels = torch.arange(60 if split == "train" else 12) % 2
        draws = torch.Generator().manual_seed(len(labels))
        jitter = 3 * torch.randn(2, len(labels), 1, generator=draws)
        rows, columns = torch.arange(32) - jitter - torch.tensor([16, 8])[:, None, None]
        columns = columns - 16 * labels[:, None]
        light = (-(rows[:, :, None] ** 2 + columns[:, None] ** 2) / 40).exp()
        return Images(light[:, None], labels, (32, 32))
