"""What a suite measures, from what attacks found: the same for runs, boards and verification."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from genrobust.metrics.latent import gaussian_total_correlation
from genrobust.metrics.success import SuccessRate, eps50, robust_area, success_rate
from genrobust.outcomes.damage import damage_of
from genrobust.outcomes.outcome import Outcome, Sizes, Worst
from genrobust.outcomes.statistics import estimates
from genrobust.records.record import EpsScores, Estimate, PairMatrix, Scores
from genrobust.rules.base import RULES
from genrobust.suites.suite import Suite


def scores(outcome: Outcome, suite: Suite, sizes: Sizes | None = None) -> Scores:
    """The suite's scores of a run; its outcome is whole, or without pictures if sizes are given."""
    clean, worst = outcome.clean, outcome.worst
    assert clean is not None
    sizes = Sizes.of_pictures(outcome) if sizes is None else sizes
    whole, per_eps = _rates(worst, suite, RULES.get(suite.rule).classes(suite.dataset))
    told = [_sizes(outcome, sizes, broken) for broken in reached(worst.ignore, suite)]
    return Scores(
        clean_accuracy=clean_accuracy(outcome, suite),
        reconstruction_error=mean(sizes.error, suite),
        kl=mean(clean.kl, suite) if clean.kl.double().mean().isfinite() else None,
        total_correlation=_number(gaussian_total_correlation(clean.mean)),
        per_eps=tuple(EpsScores(**a, **b) for a, b in zip(per_eps, told, strict=True)),
        damage=damage_of(outcome.damaged, suite),
        **whole,
    )


def rated(told: Scores, worst: Worst, suite: Suite, classes: int) -> Scores:
    """Scores with the rates that another worst case gives, their intervals by the same resamples.

    What the sources show without an attack stays as told, and what would need the images, such as
    the mean size of successful perturbations, is None.
    """
    whole, per_eps = _rates(worst, suite, classes)
    nothing = dict.fromkeys(EpsScores.model_fields)
    at = tuple(EpsScores(**{**nothing, **rates}) for rates in per_eps)
    return told.model_copy(update={**whole, "per_eps": at})


def clean_accuracy(outcome: Outcome, suite: Suite) -> Estimate:
    return mean(outcome.clean_verdict == outcome.label, suite)


def mean(values: Tensor, suite: Suite) -> Estimate:
    """The mean over sources, (B,), with its interval."""
    return estimates(values.double().numpy()[None], suite)[0]


def reached(radius: Tensor, suite: Suite) -> Tensor:
    """Whether each source is broken at each radius of the grid or a smaller one, (E, B) bool."""
    return radius <= torch.arange(len(suite.eps))[:, None]


def source_areas(worst: Worst, suite: Suite) -> Tensor:
    """Each source's own robust area (B,), in [0, 1]; 0 where it is not eligible.

    The trapezoids are linear in the sources, so that the mean is the area of all.

    Raises:
        GenrobustError: the grid has no radius above 0.
    """
    above = _above_zero(suite)
    radii = [suite.eps[e] for e in above]
    by_place = [
        robust_area(radii, [float(e < place) for e in above], clean=1.0)
        for place in range(len(suite.eps) + 1)
    ]
    areas = torch.tensor(by_place, dtype=torch.float64)[worst.ignore]
    return torch.where(worst.eligible, areas, 0.0)


def _rates(worst: Worst, suite: Suite, classes: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What follows from which sources broke: of the whole grid, and at each radius."""
    eligible, above = worst.eligible, _above_zero(suite)
    ignore, target = reached(worst.ignore, suite), reached(worst.target, suite)
    stands = (eligible & ~ignore).double()
    whole: dict[str, Any] = {"sources": len(eligible), "eligible": int(eligible.sum())}
    whole |= {"robust_area": None, "eps50": None}
    if above:
        clean = float(eligible.double().mean())
        half = eps50([suite.eps[e] for e in above], stands[above].mean(1).tolist(), clean)
        whole |= {"robust_area": mean(source_areas(worst, suite), suite), "eps50": _number(half)}
    robust = estimates(stands.numpy(), suite)
    success = torch.cat([ignore, target])[:, eligible].double().numpy()
    rates = estimates(success, suite) if eligible.any() else [None] * len(success)
    per_eps = []
    for e, eps in enumerate(suite.eps):
        pairs = (worst.label, worst.target_label, eligible, classes)
        of_ignore, of_target = success_rate(ignore[e], *pairs), success_rate(target[e], *pairs)
        of_wrong = success_rate(target[e], *pairs[:2], eligible & ignore[e], classes)
        per_eps.append(
            {
                "eps": eps,
                "robust_accuracy": robust[e],
                "as_ignore_target": rates[e],
                "as_target": rates[len(suite.eps) + e],
                "as_ignore_target_macro": _number(of_ignore.macro),
                "as_target_macro": _number(of_target.macro),
                "as_target_of_wrong": _number(of_wrong.pooled),
                "as_ignore_target_pairs": _matrix(of_ignore),
                "as_target_pairs": _matrix(of_target),
            }
        )
    return whole, per_eps


def _above_zero(suite: Suite) -> list[int]:
    """The positions of the radii above 0: the value at 0 is known without an attack."""
    return [e for e, radius in enumerate(suite.eps) if radius > 0]


def _sizes(outcome: Outcome, sizes: Sizes, broken: Tensor) -> dict[str, Any]:
    """Means over the sources that broke."""
    effect = outcome.ignore.effect
    assert effect is not None

    def over(values: Tensor) -> float | None:
        return _number(float(values[broken].double().mean()))

    return {
        "linf": _number(float(sizes.linf[broken].mean())),
        "l2": _number(float(sizes.l2[broken].mean())),
        "reconstruction_shift": over(sizes.shift),
        "source_similarity": over(effect.source_similarity),
        "reconstruction_similarity": over(effect.reconstruction_similarity),
        "latent_displacement": over(effect.displacement),
        "symmetric_kl": over(effect.symmetric_kl),
        "token_flips": over(effect.token_flips),
    }


def _number(value: float) -> float | None:
    """JSON has neither NaN nor infinity: None says that there is no such number."""
    return value if math.isfinite(value) else None


def _matrix(rate: SuccessRate) -> PairMatrix:
    rates = tuple(tuple(_number(value) for value in row) for row in rate.pairs.tolist())
    return PairMatrix(rate=rates, n=tuple(map(tuple, rate.n.tolist())))
