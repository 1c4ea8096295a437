"""What a suite measures, from what attacks found: the same for runs, boards and verification."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from genrobust.metrics.latent import gaussian_total_correlation
from genrobust.metrics.success import SuccessRate, eps50, success_rate
from genrobust.outcomes.damage import damage_of
from genrobust.outcomes.outcome import Outcome, Sizes
from genrobust.records.outcomes import Worst, above_zero, reached, robust_at, source_areas
from genrobust.records.record import EpsScores, Estimate, PairMatrix, Scores
from genrobust.records.statistics import estimates
from genrobust.rules.base import RULES
from genrobust.suites.suite import Suite


def scores(outcome: Outcome, suite: Suite, sizes: Sizes | None = None) -> Scores:
    """The suite's scores of a run; its outcome is whole, or without pictures if sizes are given."""
    clean, worst = outcome.clean, outcome.worst
    assert clean is not None
    sizes = Sizes.of_pictures(outcome) if sizes is None else sizes
    whole, per_eps = _rates(worst, suite, RULES.get(suite.rule).classes(suite.dataset))
    told = [_sizes(outcome, sizes, broken) for broken in reached(worst.untargeted, suite)]
    return Scores(
        clean_accuracy=clean_accuracy(outcome, suite),
        reconstruction_error=mean(sizes.error, suite),
        kl=mean(clean.kl, suite) if clean.kl.double().mean().isfinite() else None,
        total_correlation=finite(gaussian_total_correlation(clean.mean)),
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


def finite(value: float) -> float | None:
    """JSON has neither NaN nor infinity: None says that there is no such number."""
    return value if math.isfinite(value) else None


def _rates(worst: Worst, suite: Suite, classes: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What follows from which sources broke: of the whole grid, and at each radius."""
    eligible, above = worst.eligible, above_zero(suite)
    ignore, target = reached(worst.untargeted, suite), reached(worst.targeted, suite)
    stands = robust_at(worst, suite).double()
    whole: dict[str, Any] = {"sources": len(eligible), "eligible": int(eligible.sum())}
    whole |= {"robust_area": None, "eps50": None}
    if above:
        clean = float(eligible.double().mean())
        half = eps50([suite.eps[e] for e in above], stands[above].mean(1).tolist(), clean)
        whole |= {"robust_area": mean(source_areas(worst, suite), suite), "eps50": finite(half)}
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
                "as_ignore_target_macro": finite(of_ignore.macro),
                "as_target_macro": finite(of_target.macro),
                "as_target_of_wrong": finite(of_wrong.pooled),
                "as_ignore_target_pairs": _matrix(of_ignore),
                "as_target_pairs": _matrix(of_target),
            }
        )
    return whole, per_eps


def _sizes(outcome: Outcome, sizes: Sizes, broken: Tensor) -> dict[str, Any]:
    """Means over the sources that broke."""
    effect = outcome.untargeted.effect
    assert effect is not None

    def over(values: Tensor) -> float | None:
        return finite(float(values[broken].double().mean()))

    return {
        "linf": finite(float(sizes.linf[broken].mean())),
        "l2": finite(float(sizes.l2[broken].mean())),
        "reconstruction_shift": over(sizes.shift),
        "source_similarity": over(effect.source_similarity),
        "reconstruction_similarity": over(effect.reconstruction_similarity),
        "latent_displacement": over(effect.displacement),
        "symmetric_kl": over(effect.symmetric_kl),
        "token_flips": over(effect.token_flips),
    }


def _matrix(rate: SuccessRate) -> PairMatrix:
    rates = tuple(tuple(finite(value) for value in row) for row in rate.pairs.tolist())
    return PairMatrix(rate=rates, n=tuple(map(tuple, rate.n.tolist())))
