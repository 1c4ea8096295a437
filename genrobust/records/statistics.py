"""Intervals over sources: one set of resamples for all that is measured on a suite.

Records, curves and boards draw the same sources with replacement, so that one outcome has one
interval wherever it is shown, and differences between models are paired. The resamples are those
of ``scipy.stats.bootstrap(..., method="percentile")`` with a generator seeded by the suite.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from genrobust.records.record import Estimate
from genrobust.seeding import seed_of
from genrobust.suites.suite import Suite

Array = NDArray[np.float64]

#: Resamples at a time: bounds memory on large suites.
CHUNK = 250

#: Positions at a time, likewise.
DRAWN = 2_000_000


def resamples(count: int, suite: Suite) -> Iterator[NDArray[np.int64]]:
    """Positions of the sources in each resample, (at most ``CHUNK``, count) at a time.

    Args:
        count: how many sources there are to draw from, and are drawn.
        suite: its ``resamples`` say how many, and its name and version seed the draws.
    """
    draws = np.random.default_rng(seed_of("bootstrap", suite.name, suite.version))
    rows = min(CHUNK, max(1, DRAWN // count))
    for start in range(0, suite.resamples, rows):
        yield draws.integers(0, count, (min(rows, suite.resamples - start), count))


def resampled_means(values: Array, suite: Suite) -> Array:
    """The mean of each row in each resample of its columns, (N, B) to (N, resamples)."""
    chunks = resamples(values.shape[1], suite)
    means = [np.stack([row[picks].mean(-1) for row in values]) for picks in chunks]
    return np.concatenate(means, axis=1)


def interval(drawn: Array, suite: Suite) -> tuple[Array, Array]:
    """The middle of the resampled values along the last dimension: its lower and upper ends."""
    ascending = np.sort(drawn, axis=-1)
    tail = (1 - suite.confidence) / 2
    return _quantile(ascending, tail), _quantile(ascending, 1 - tail)


def estimates(values: Array, suite: Suite) -> list[Estimate]:
    """The mean of each row of (N, B) with its percentile interval.

    A row without a difference, or of one source, has an interval without width.
    """
    if not len(values):
        return []
    lows, highs = interval(resampled_means(values, suite), suite)
    found = []
    for row, low, high in zip(values, lows, highs, strict=True):
        value = float(row.mean())
        low, high = (value, value) if np.ptp(row) == 0 else (float(low), float(high))
        found.append(Estimate(value=value, low=low, high=high, n=len(row)))
    return found


def _quantile(ascending: Array, share: float) -> Array:
    """Linear between neighbours, to the bit as scipy has it; numpy's differs in the last one."""
    count = ascending.shape[-1]
    place = share * count + (1 - share)  # from 1
    upper, weight = min(int(place), count - 1), place % 1
    found: Array = (1 - weight) * ascending[..., int(place) - 1] + weight * ascending[..., upper]
    return found
