"""Whether two models, or two attacks, differ on the same sources by more than chance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.arguments import flags, real, whole, whole_seed
from genrobust.errors import GenrobustError
from genrobust.metrics.checks import same_shape
from genrobust.seeding import seed_of


@dataclass(frozen=True)
class Difference:
    """A difference of means with its interval.

    Args:
        value: mean of the first minus mean of the second.
        low: the interval's lower end.
        high: its upper end.
        n: sources in each mean.
    """

    value: float
    low: float
    high: float
    n: int


def paired_difference(
    first: Tensor,
    second: Tensor,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    r"""The difference of two shares on the same sources, with a paired bootstrap interval.

    Sources are drawn with replacement, both outcomes of a source together, and the interval holds
    the middle of the resampled differences (the percentile method). As a source's difference is
    -1, 0 or 1, a resample is one multinomial draw of how often each occurs.

    Args:
        first: outcomes of the one, (B,) bool or 0 and 1.
        second: outcomes of the other on the same sources in the same order, (B,).
        confidence: the interval's level, between 0 and 1.
        resamples: how many to draw.
        seed: the seed of the draws.

    Returns:
        The difference, in [-1, 1]; an interval without 0 says that chance alone is an unlikely
        cause.

    Raises:
        GenrobustError: shapes differ or are not (B,), there is no source, an outcome is neither 0
            nor 1, the level is outside (0, 1), or there are no resamples.

    Example:
        >>> robust = torch.tensor([1, 1, 1, 1, 0, 1, 1, 1])
        >>> weak = torch.tensor([1, 0, 0, 0, 0, 0, 0, 1])
        >>> found = paired_difference(robust, weak)
        >>> found.value, found.low > 0
        (0.625, True)
    """
    first, second = same_shape(flags, first=first, second=second)
    if first.ndim != 1 or not len(first):
        raise GenrobustError(f"outcomes are {tuple(first.shape)}; give (B,) with B at least 1")
    if not 0 < real("confidence", confidence) < 1 or whole("resamples", resamples) < 1:
        raise GenrobustError(
            f"confidence is {confidence} and resamples {resamples}; give a level between 0 and 1 "
            "and at least one resample"
        )
    import numpy as np

    n = len(first)
    change = first.long() - second.long()
    share = torch.bincount(change.cpu() + 1, minlength=3).double().numpy() / n
    counts = np.random.default_rng(seed_of("paired", whole_seed(seed))).multinomial(
        n, share, size=resamples
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile((counts[:, 2] - counts[:, 0]) / n, [tail, 1 - tail])
    return Difference(float(change.double().mean()), float(low), float(high), n)
