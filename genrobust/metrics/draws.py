"""Draws from posteriors that depend on the sample alone, never on the batch around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from genrobust.errors import GenrobustError
from genrobust.metrics.checks import one_id_each
from genrobust.posterior import Posterior
from genrobust.seeding import generator


def keyed_draws(
    posterior: Posterior, sample_ids: Sequence[int], draws: int, *key: object
) -> Iterator[Tensor]:
    """Draw codes; the k-th of a sample is the same in any batch, and in any number of draws.

    Args:
        posterior: q(code | x) of B images.
        sample_ids: one number a sample, which with ``key`` seeds its draws.
        draws: how many to draw, at least 1.
        key: a seed and a purpose, so that two uses are independent.

    Yields:
        Exact draws of all codes, as ``posterior.mode()`` is shaped.

    Raises:
        GenrobustError: fewer or more ids than samples, ids that are no numbers, or no draws.

    Example:
        >>> from genrobust.posterior import Gaussian
        >>> q = Posterior((Gaussian(torch.zeros(2, 3), torch.zeros(2, 3)),))
        >>> [both], [second] = keyed_draws(q, [7, 8], 1), keyed_draws(q[torch.tensor([1])], [8], 1)
        >>> torch.equal(both[1:], second)
        True
    """
    ids = one_id_each(sample_ids, len(posterior))
    if draws < 1:
        raise GenrobustError(f"draws is {draws}; draw at least once")
    streams = [generator(*key, i) for i in ids]
    alone = [posterior[torch.tensor([b])] for b in range(len(posterior))]
    for _ in range(draws):
        noise = [q.draw_noise(stream) for q, stream in zip(alone, streams, strict=True)]
        yield posterior.sample([torch.cat(parts) for parts in zip(*noise, strict=True)])
