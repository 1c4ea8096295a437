"""Means and rank correlations over recipes, with intervals over seeds and sources.

A study has two sources of chance: which seeds were trained, and which pictures were attacked. Each
resample draws the pictures once, for all models, and then each recipe's seeds; the recipes are
chosen, not drawn, so that what is said is said of these recipes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from genrobust.errors import GenrobustError
from genrobust.seeding import seed_of

Array = NDArray[np.float64]

#: The share of resamples that must have a value for an interval to be given.
ENOUGH = 0.9


@dataclass(frozen=True)
class Interval:
    """A number and the middle 95% of its resamples; None for what is not defined.

    Example:
        >>> str(Interval(0.25, 0.2, 0.31)), str(Interval(None))
        ('0.25 (0.2 to 0.31)', '-')
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        if self.low is None or self.high is None:
            return f"{self.value:.3g}"
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True, eq=False)
class Resamples:
    """Draws of pictures and of seeds.

    Args:
        groups: of each recipe, the positions of its models.
        pictures: how often each of R resamples draws each picture, as shares, (R, B).
        seeds: for each recipe, which of its models each resample draws, (R, k) positions.
    """

    groups: tuple[tuple[int, ...], ...]
    pictures: Array
    seeds: tuple[NDArray[np.int64], ...]

    @classmethod
    def draw(
        cls, groups: Sequence[Sequence[int]], sources: int, count: int = 2000, seed: int = 0
    ) -> Resamples:
        """By key.

        Example:
            >>> Resamples.draw([[0, 1], [2]], sources=5, count=10).pictures.shape
            (10, 5)
        """
        if not groups or not all(groups) or sources < 1 or count < 1:
            raise GenrobustError("there is nothing to resample; give models and sources")
        random = np.random.default_rng(seed_of("study", seed))
        pictures = random.multinomial(sources, np.full(sources, 1 / sources), size=count) / sources
        seeds = tuple(
            np.asarray(group)[random.integers(len(group), size=(count, len(group)))]
            for group in groups
        )
        return cls(tuple(map(tuple, groups)), pictures, seeds)

    def by_picture(self, values: Array) -> tuple[Array, Array]:
        """Means of each recipe (n,) and of its resamples (R, n), from (models, B)."""
        return values.mean(1), self._of_models(self.pictures @ values.T)

    def by_model(self, values: Array) -> tuple[Array, Array]:
        """Likewise from one value a model, (models,), over seeds alone."""
        return values, self._of_models(np.broadcast_to(values, (len(self.pictures), len(values))))

    def means(self, values: Array) -> Array:
        """(models,) to (n,)."""
        return np.array([values[list(group)].mean() for group in self.groups])

    def _of_models(self, drawn: Array) -> Array:
        """(R, models) to (R, n)."""
        pairs = zip(self.groups, self.seeds, strict=True)
        return np.stack([over_seeds(drawn, group, chosen) for group, chosen in pairs], 1)


def over_seeds(drawn: Array, group: Sequence[int], chosen: NDArray[np.int64]) -> Array:
    """The mean of a recipe in each resample.

    The mean of k values drawn from k varies by (k - 1) / k too little: its deviations are
    stretched by the root of k / (k - 1) (Rao & Wu 1988).

    Args:
        drawn: of each model on the resample's pictures, (R, models).
        group: the positions of the recipe's models.
        chosen: which of them each resample draws, (R, k) positions.

    Returns:
        (R,).

    Example:
        >>> drawn, chosen = np.array([[0.2, 0.4], [0.3, 0.5]]), np.array([[0, 1], [0, 1]])
        >>> over_seeds(drawn, [0, 1], chosen).round(2).tolist()
        [0.3, 0.4]
    """
    every = drawn[:, list(group)].mean(1)
    some = np.take_along_axis(drawn, chosen, 1).mean(1)
    k = len(group)
    found: Array = every + (some - every) * (np.sqrt(k / (k - 1)) if k > 1 else 1.0)
    return found


def interval(value: float, resamples: Array) -> Interval:
    """The percentile interval; none where too few resamples are defined.

    Example:
        >>> interval(0.5, np.linspace(0, 1, 1001))
        Interval(value=0.5, low=0.025, high=0.975)
    """
    if not np.isfinite(value):
        return Interval(None)
    defined = resamples[np.isfinite(resamples)]
    if len(defined) < ENOUGH * len(resamples):
        return Interval(float(value))
    low, high = np.quantile(defined, [0.025, 0.975])
    return Interval(float(value), round(float(low), 12), round(float(high), 12))


def spearman(x: Array, y: Array, given: Array | None = None) -> Array:
    """Spearman's rank correlation along the last axis, or the partial one at a third fixed.

    Args:
        x: (..., n).
        y: likewise.
        given: likewise; what is held fixed: ``(r_xy - r_xz r_yz) / sqrt((1 - r_xz^2)(1 - r_yz^2))``
            of the ranks.

    Returns:
        (...), in [-1, 1]; NaN where a side does not vary, or not beside what is held fixed.

    Example:
        >>> x, y = np.array([1.0, 2, 3, 4]), np.array([1.0, 4, 9, 16])
        >>> float(spearman(x, y)), float(spearman(x, -y, given=np.array([1.0, 3, 2, 4])))
        (1.0, -1.0)
    """
    xy = _pearson(_ranks(x), _ranks(y))
    if given is None:
        return xy
    xz, yz = _pearson(_ranks(x), _ranks(given)), _pearson(_ranks(y), _ranks(given))
    left = (1 - xz**2) * (1 - yz**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (xy - xz * yz) / np.sqrt(left)
    return np.where(left > 1e-9, np.clip(found, -1, 1), np.nan)


def share_between(values: Array, groups: Sequence[Sequence[int]]) -> float | None:
    """Of the variance between models, the share that recipes explain and seeds do not.

    The intraclass correlation of a one-way analysis with unequal groups (Shrout & Fleiss 1979,
    Case 1), at least 0; None where no recipe has two seeds or nothing varies.

    Example:
        >>> share_between(np.array([1.0, 1.0, 2.0, 2.0]), [[0, 1], [2, 3]])
        1.0
    """
    sizes = np.array([len(group) for group in groups])
    n, k = int(sizes.sum()), len(groups)
    if n <= k or k < 2:
        return None
    means = np.array([values[list(group)].mean() for group in groups])
    grand = values[[i for group in groups for i in group]].mean()
    between = float((sizes * (means - grand) ** 2).sum() / (k - 1))
    within = sum(
        float(((values[list(group)] - mean) ** 2).sum())
        for group, mean in zip(groups, means, strict=True)
    ) / (n - k)
    size = (n - float((sizes**2).sum()) / n) / (k - 1)
    whole = between + (size - 1) * within
    return max(0.0, (between - within) / whole) if whole > 0 else None


def _ranks(values: Array) -> Array:
    ranked: Array = rankdata(values, axis=-1)
    return ranked


def _pearson(x: Array, y: Array) -> Array:
    x, y = (side - side.mean(-1, keepdims=True) for side in (x, y))
    spread = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (x * y).sum(-1) / spread
    return np.where(spread > 1e-12, np.clip(found, -1, 1), np.nan)
