"""Images as x = (tanh(w) + 1) / 2: whatever w is, x is in the box (Carlini & Wagner 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

#: Pixels this near to black or white have the w of that distance: tanh reaches neither.
MARGIN = 1e-6


def to_image(w: Tensor) -> Tensor:
    """The image of each w, in [0, 1]."""
    return (w.tanh() + 1) / 2


def from_image(x: Tensor) -> Tensor:
    """The w of each image."""
    return torch.atanh((2 * x - 1).clamp(-1 + MARGIN, 1 - MARGIN))


def chain(w: Tensor, gradient: Tensor) -> Tensor:
    """The gradient with respect to w from that with respect to the image."""
    image = to_image(w)
    return gradient * 2 * image * (1 - image)


def follow(w: Tensor, x: Tensor) -> Tensor:
    """w, except at pixels that a projection moved to those of ``x``."""
    return torch.where((to_image(w) - x).abs() > MARGIN, from_image(x), w)
