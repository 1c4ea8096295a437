"""Random changes that keep an image's class."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def move(
    images: Tensor, generator: torch.Generator, degrees: float, shift: float, scale: float
) -> Tensor:
    """Turn, shift and scale each image at random.

    Args:
        images: (B, C, H, W).
        degrees: the largest turn either way.
        shift: the largest shift, as a share of the image's side.
        scale: sizes lie in [1 - scale, 1 + scale].
    """
    count = len(images)
    draw = 2 * torch.rand(4, count, generator=generator) - 1
    angle, zoom = draw[0] * math.radians(degrees), 1 / (1 + draw[1] * scale)
    affine = torch.zeros(count, 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = zoom * angle.cos()
    affine[:, 0, 1] = -zoom * angle.sin()
    affine[:, 1, 0] = zoom * angle.sin()
    affine[:, :, 2] = (2 * shift * draw[2:]).T
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def blur_and_noise(images: Tensor, generator: torch.Generator) -> Tensor:
    """Half the images blurred as reconstructions are (sigma up to 1.5 pixels), noise up to 0.1."""
    count = len(images)
    sigma = 0.2 + 1.3 * torch.rand(count, generator=generator)
    offsets = torch.arange(-4, 5, dtype=images.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * sigma[:, None] ** 2))
    kernel = kernel / kernel.sum(1, keepdim=True)
    stacked = images.transpose(0, 1)  # a group a sample, so that each has its own kernel
    rows = F.conv2d(stacked, kernel[:, None, None, :], padding=(0, 4), groups=count)
    both = F.conv2d(rows, kernel[:, None, :, None], padding=(4, 0), groups=count)
    is_blurred = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
    images = torch.where(is_blurred, both.transpose(0, 1), images)
    level = 0.1 * torch.rand(count, 1, 1, 1, generator=generator)
    return (images + level * torch.randn(images.shape, generator=generator)).clamp(0, 1)
