"""What is known of a data set's images beside the class: the factors that they vary in.

Generated sets know theirs. Of handwritten digits the class is known and two are measured from the
picture, as moments of its ink (as Morpho-MNIST does, Castro et al. 2019): how it slants and how
much ink there is, each in fifths of the split.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from genrobust.data.base import DATASETS, Split, is_reference, load_images
from genrobust.data.reference import Reference

#: Data sets of digits, light ink on dark.
DIGITS = ("digits", "mnist", "mnist28")

#: How many levels a measured factor has.
LEVELS = 5


def known_factors(
    dataset: str, split: Split = "test", root: str | Path | None = None
) -> dict[str, Tensor]:
    """The factors of a split's images, by name, each (N,) int64 from 0; none where none are known.

    Args:
        dataset: a registered data set.
        split: ``"train"`` or ``"test"``.
        root: see :func:`load_images`.

    Raises:
        GenrobustError: no such data set, or its files are missing.

    Example:
        >>> {name: int(values.max()) for name, values in known_factors("digits").items()}
        {'class': 9, 'slant': 4, 'ink': 4}
        >>> list(known_factors("sprites"))
        ['shape', 'scale', 'orientation', 'x', 'y']
    """
    place = dataset
    if is_reference(dataset):  # which may leave pictures out
        reference = Reference.parse(dataset)
        place = "" if reference.draw else reference.place
    if place not in DATASETS:
        return {}
    whole = load_images(place, split, root)
    if whole.factors is not None:
        count = whole.factors.shape[1]
        names = getattr(DATASETS.get(place), "factors", map("factor {}".format, range(count)))
        return dict(zip(names, whole.factors.unbind(1), strict=True))
    if place in DIGITS:
        images = load_images(dataset, split, root)
        every = torch.arange(len(images))
        slant, ink = _moments(images.take(every)[:, 0].double())
        return {"class": images.labels_of(every), "slant": _fifths(slant), "ink": _fifths(ink)}
    return {}


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Of images (N, H, W): the slant, ``mu_11 / mu_02``, and the ink, (N,) each."""
    height, width = images.shape[1:]
    ink = images.sum((1, 2))
    y = torch.arange(height).double().view(1, -1, 1)
    x = torch.arange(width).double().view(1, 1, -1)
    mass = images / ink.clamp(min=1e-12).view(-1, 1, 1)
    dy = y - (mass * y).sum((1, 2), keepdim=True)
    dx = x - (mass * x).sum((1, 2), keepdim=True)
    slant = (mass * dx * dy).sum((1, 2)) / (mass * dy**2).sum((1, 2)).clamp(min=1e-12)
    return slant, ink


def _fifths(values: Tensor) -> Tensor:
    levels = torch.linspace(0, 1, LEVELS + 1, dtype=values.dtype)[1:-1]
    return torch.bucketize(values, values.quantile(levels))
