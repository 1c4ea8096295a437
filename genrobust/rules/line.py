"""The line that a reconstruction must not cross: what a picture that never changes would reach."""

from __future__ import annotations

from torch import Tensor

from genrobust.distance import euclidean
from genrobust.rules.base import Sources

#: How near a reconstruction must be, as a part of the distance from the constant picture.
LINE = 0.9


def line(sources: Sources) -> Tensor:
    """The L2 distance from each source, (B,), at which a picture no longer shows it.

    It is 0.9 of the distance from the source to the best picture that is the same for all: the
    mean of the data set's other images. Whoever is not nearer has been told next to nothing of the
    source. The line is the source's own: it does not depend on the model, so that no model is
    given more room for reconstructing badly, and it scales with the contrast of the data.

    Of published checkpoints 95 of 100 test images or more lie below it, for the most by half.

    Raises:
        AssertionError: the sources have no constant picture.

    Example:
        >>> import torch
        >>> x, none = torch.ones(1, 1, 1, 4), torch.zeros(1)
        >>> line(Sources((0,), x, none, none, x, None, torch.zeros(1, 1, 1, 4)))
        tensor([1.8000])
    """
    assert sources.constant is not None, "a suite's data set is at hand"
    return LINE * euclidean(sources.constant, sources.x)


def shows(images: Tensor, sources: Sources) -> Tensor:
    """Whether images show their source: they lie inside its line, (B,) bool."""
    return euclidean(images, sources.x) < line(sources)
