"""Finite differences: what a model really does, beside what autograd says of it.

Directions are rows of a Hadamard matrix, so that differences along all of them give a gradient
without cross-talk, and each moves every pixel by as much, so that what is rounded somewhere on the
way still averages out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from genrobust.batch import Batch
from genrobust.seeding import generator, per_sample

#: The most directions, and so the most blocks of pixels that are told apart.
MOST = 1024
#: Noise, per pixel, without which a maximum of equal pixels has a kink.
GRAIN = 0.05


def centre(x: Tensor, step: float) -> Tensor:
    """The nearest images around which a step fits in the box."""
    return x.clamp(step, 1 - step)


def textured(batch: Batch, step: float) -> Tensor:
    """Likewise, with noise."""

    def draw(generator: torch.Generator) -> Tensor:
        return torch.rand(batch.x.shape[1:], generator=generator)

    noise = per_sample(draw, batch.sample_ids, "texture", batch.seed).to(batch.x)
    return batch.x.clamp(step, 1 - step - GRAIN) + GRAIN * noise


def differences(
    function: Callable[[Tensor], Tensor], x: Tensor, directions: Tensor, step: float
) -> Tensor:
    """Central differences of a function of images along directions (K, C, H, W), per unit.

    Args:
        function: images to (B, ...).
        x: the centre, (B, C, H, W).

    Returns:
        (K, B, ...).
    """
    with torch.no_grad():
        moved = [function(x + step * d) - function(x - step * d) for d in directions]
    return torch.stack(moved) / (2 * step)


def directions(shape: torch.Size, count: int | None = None) -> Tensor:
    """So many directions of 1 and -1, (K, C, H, W); by default all that tell blocks apart."""
    channels, height, width = shape
    side = block_side(shape)
    rows, columns = -(-height // side), -(-width // side)
    patterns = _hadamard(channels * rows * columns)[:count]
    coarse = patterns.view(len(patterns), channels, rows, columns)
    return F.interpolate(coarse, scale_factor=float(side))[..., :height, :width].contiguous()


def block_side(shape: torch.Size) -> int:
    """The side of the blocks of pixels that move together: 1 where images are small."""
    channels, height, width = shape
    side = 1
    while channels * -(-height // side) * -(-width // side) > MOST:
        side += 1
    return side


@cache
def _hadamard(columns: int) -> Tensor:
    """Rows in a random order whose first columns are orthogonal, (N, columns)."""
    rows = torch.ones(1, 1)
    while len(rows) < columns:
        rows = torch.cat([torch.cat([rows, rows], 1), torch.cat([rows, -rows], 1)])
    source = generator("directions")
    signs = 2.0 * torch.randint(2, (len(rows),), generator=source) - 1
    order = torch.randperm(len(rows), generator=source)
    return (rows[order] * signs)[:, torch.randperm(len(rows), generator=source)][:, :columns]


def jacobian(function: Callable[[Tensor], Tensor], x: Tensor, step: float) -> Tensor:
    """Of a function of images with values (B, F), from differences alone: (B, F, C, H, W).

    Where blocks of pixels move together, each pixel has an equal part of its block's slope.
    """
    along = directions(x.shape[1:]).to(x)
    measured = differences(function, centre(x, step), along, step)
    pixels = block_side(x.shape[1:]) ** 2
    return torch.einsum("kbf,kchw->bfchw", measured, along) / (len(along) * pixels)


def cosine(one: Tensor, other: Tensor, dim: int) -> Tensor:
    """Of vectors along a dimension, whatever their scale; 1 of two that are 0, and 0 of one."""
    one, other = one.double(), other.double()
    a, b = (v / v.abs().amax(dim, keepdim=True).clamp_min(1e-300) for v in (one, other))
    lengths = a.norm(dim=dim) * b.norm(dim=dim)
    both_zero = (a == 0).all(dim) & (b == 0).all(dim)
    found = (a * b).sum(dim) / lengths.clamp_min(1e-300)
    return torch.where(both_zero, torch.ones_like(found), found).float()
