"""Sprites: generated shapes of five known factors, on the grid of dSprites (Matthey et al. 2017).

64x64 binary images of a square, an ellipse or a heart at 6 scales, 40 orientations and 32 x 32
places: 737,280 in all, numbered in that order as those of dSprites are. They are drawn here and not
copied; sizes and places were fitted so that published models of dSprites reconstruct them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from genrobust.data.base import Images, Split
from genrobust.seeding import generator

#: How many values each factor has.
FACTORS = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
COUNT = math.prod(FACTORS.values())

#: How many are drawn, by key, for each split; no image is in both.
SPLITS = {"test": 1000, "train": 8000}

SIZE = 64

#: In pixels: the least and the greatest coordinate of a shape's middle; half a square's side, an
#: ellipse's half axes and a heart's unit, all at scale 1.
PLACES = (16.0, 47.0)
SQUARE, ELLIPSE, HEART = 9.0, (12.5, 7.0), 0.65


def factors_of(ids: Sequence[int] | Tensor) -> Tensor:
    """The five factors of sprites by number, (n, 5) int64, in the order of ``FACTORS``.

    Example:
        >>> factors_of([0, 1, 737279]).tolist()
        [[0, 0, 0, 0, 0], [0, 0, 0, 0, 1], [2, 5, 39, 31, 31]]
    """
    left, found = torch.as_tensor(ids), []
    for values in reversed(FACTORS.values()):
        found.append(left % values)
        left = left // values
    return torch.stack(found[::-1], -1)


def render(factors: Tensor) -> Tensor:
    """Sprites (n, 1, 64, 64), bytes 0 and 255, of factors (n, 5).

    Example:
        >>> render(factors_of([0, 737279])).shape
        torch.Size([2, 1, 64, 64])
    """
    shape, scale, turn, x, y = factors.double().unbind(-1)
    grid = torch.arange(SIZE).double()
    low, high = PLACES
    dx = grid.view(1, 1, -1) - (low + (high - low) * x / 31).view(-1, 1, 1)
    dy = grid.view(1, -1, 1) - (low + (high - low) * y / 31).view(-1, 1, 1)
    angle = (2 * math.pi * (turn % 39) / 39).view(-1, 1, 1)
    size = (0.5 + scale / 10).view(-1, 1, 1)
    u = (dx * angle.cos() + dy * angle.sin()) / size
    v = (dy * angle.cos() - dx * angle.sin()) / size
    square = torch.maximum(u.abs(), v.abs()) <= SQUARE
    ellipse = (u / ELLIPSE[0]) ** 2 + (v / ELLIPSE[1]) ** 2 <= 1
    inside = torch.stack([square, ellipse, _in_heart(u / HEART, v / HEART)])
    chosen = inside[shape.long(), torch.arange(len(factors))]
    return chosen[:, None].byte() * 255


def _in_heart(u: Tensor, v: Tensor) -> Tensor:
    """Inside ``x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t``, the tip downwards."""
    sine = (u.abs() / 16).clamp(0, 1) ** (1 / 3)
    t = torch.asin(sine)
    top, bottom = (_height(angle) for angle in (t, math.pi - t))
    return (u.abs() <= 16) & (-v <= top) & (-v >= bottom)


def _height(t: Tensor) -> Tensor:
    return 13 * t.cos() - 5 * (2 * t).cos() - 2 * (3 * t).cos() - (4 * t).cos()


class Sprites:
    name = "sprites"
    classes = ("square", "ellipse", "heart")
    image_shape = (1, SIZE, SIZE)
    factors = FACTORS
    render = staticmethod(render)

    def load(self, split: Split, root: Path | None) -> Images:
        factors = factors_of(self.ids(split))
        return Images(render(factors), factors[:, 0], (SIZE, SIZE), factors)

    def ids(self, split: Split) -> Tensor:
        """The numbers of a split's sprites, as :func:`factors_of` takes them."""
        order = torch.randperm(COUNT, generator=generator("sprites"))
        first = {"test": 0, "train": SPLITS["test"]}[split]
        return order[first : first + SPLITS[split]].sort().values


SPRITES = Sprites()
