"""Distributions of ``torch.distributions``: which posterior they are, and which picture."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor
from torch import distributions as D

from genrobust.errors import GenrobustError
from genrobust.models.reading.outputs import plain
from genrobust.posterior import Categorical, Gaussian, Part, Point

_CATEGORICAL = (D.OneHotCategorical, D.Categorical, D.RelaxedOneHotCategorical)
_AS_GAUSSIAN = (D.Laplace, D.MultivariateNormal, D.LowRankMultivariateNormal)
#: They have no mean, and show their probabilities.
_RELAXED = (D.RelaxedBernoulli, D.RelaxedOneHotCategorical)


def base_of(given: D.Distribution) -> D.Distribution:
    """The distribution whose axes are said to be independent."""
    while isinstance(given, D.Independent):
        given = given.base_dist
    return given


def mean_of(given: D.Distribution) -> Tensor | None:
    """The mean; None where there is none, as of a flow, or it is no number, as of Cauchy's."""
    with suppress(NotImplementedError):
        mean = given.mean
        # What is exported was tried before, and an export cannot look at numbers.
        return mean if torch.compiler.is_compiling() or mean.isfinite().any() else None
    return None


def way_to_show(given: D.Distribution, d: str) -> str | None:
    """How to write the numbers that a distribution without a mean stands for; None if unknown.

    Args:
        given: the distribution.
        d: how it is written itself.
    """
    base = base_of(given)
    d = d if base is given else f"{d}.base_dist"
    if isinstance(base, D.Categorical):
        return f"({d}.probs * torch.linspace(0, 1, {d}.probs.shape[-1])).sum(-1)"
    if isinstance(base, _RELAXED):
        return f"{d}.probs"
    if isinstance(base, D.TransformedDistribution):
        if mean_of(base.base_dist) is None:
            return None
        return f"{d}.transforms[0]({d}.base_dist.mean)"
    with suppress(NotImplementedError):
        return f"{d}.mode" if base.mode is not None else None
    return None


def part_of(given: D.Distribution) -> Part:
    """A distribution as a part of a posterior: as a point where nothing is known of its spread.

    Raises:
        GenrobustError: it has neither a mean nor anything else that is a code.
    """
    base = base_of(given)
    if isinstance(base, D.Normal):
        scale = plain(base.scale, "the encoder")
        return Gaussian(plain(base.loc, "the encoder"), 2 * scale.log())
    if isinstance(base, _CATEGORICAL):
        return _categorical(base)
    if isinstance(base, _AS_GAUSSIAN):
        mean, variance = (plain(t, "the encoder") for t in (base.mean, base.variance))
        return Gaussian(mean, variance.log())
    if (middle := mean_of(base)) is not None:
        return Point(plain(middle, "the encoder"))
    if isinstance(base, D.TransformedDistribution) and not isinstance(base, _RELAXED):
        code = part_of(base.base_dist).mode()
        for transform in base.transforms:
            code = transform(code)
        return Point(code)
    way = way_to_show(given, "module.encode(x)")
    advice = f"encode=lambda x: {way}" if way else "encode=, a function from images to their codes"
    raise GenrobustError(
        f"the encoder returned the distribution {type(base).__name__}, which has no mean to be "
        f"read; pass {advice}"
    )


def _categorical(
    given: D.OneHotCategorical | D.Categorical | D.RelaxedOneHotCategorical,
) -> Categorical:
    logits = given.logits
    if logits.ndim != 2:
        raise GenrobustError(
            f"the encoder returned a categorical with logits of shape {tuple(logits.shape)}, and "
            "genrobust takes (batch, classes); pass encode=, a function that returns a genrobust "
            "Posterior with one Categorical a variable"
        )
    return Categorical(plain(logits, "the encoder"))


def approximation(given: D.Distribution) -> str | None:
    """What of a distribution :func:`part_of` leaves out, in words; None if nothing."""
    base = base_of(given)
    name = type(base).__name__
    if isinstance(base, (D.Normal, *_CATEGORICAL)):
        return None
    if isinstance(base, _AS_GAUSSIAN):
        return (
            f"a {name} is read as the Gaussian of its mean and its variances; attacks that match "
            "posteriors match those"
        )
    point = "its mean"
    if mean_of(base) is None:
        point = "the point to which its base's mode is transformed"
    return f"a {name} is read as {point}; nothing is known of its spread"
