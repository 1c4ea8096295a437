"""From shard results to scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from genrobust.metrics.distances import l2, linf
from genrobust.metrics.latent import gaussian_total_correlation
from genrobust.metrics.success import SuccessRate, eps50, robust_area, success_rate
from genrobust.records.examples import Attacked, Example
from genrobust.records.record import AttackCost, EpsScores, Estimate, PairMatrix, Scores
from genrobust.rules.base import RULES
from genrobust.runner.damage import damage_of
from genrobust.runner.fields import joined
from genrobust.runner.shard import Measured
from genrobust.runner.statistics import estimates
from genrobust.suites.suite import Suite

#: How many sources a report shows where there are no classes.
EXAMPLES = 10

#: What the last two rows of the counts are: work done for the flags.
DIAGNOSTICS = ("short attacks, for the flags", "twice the steps, for a flag")


def join(shards: Sequence[Measured]) -> dict[str, Tensor]:
    """One set of tensors over all samples, in the order of the shards; counts are summed."""
    found = {}
    for name in shards[0].tensors:
        parts = [shard.tensors[name] for shard in shards if name in shard.tensors]
        if len(parts) < len(shards):  # a sign that older shards of a resumed run lack
            continue
        found[name] = joined(name, parts)
    return found


def score(suite: Suite, joined: dict[str, Tensor]) -> Scores:
    """The suite's scores from joined shard results."""
    classes = RULES.get(suite.rule).classes(suite.dataset)
    recognised = joined["clean_verdict"] == joined["label"]
    eligible = joined["eligible"]
    error = (joined["reconstruction"].double() - joined["source"]).flatten(1).square().sum(1)
    return Scores(
        sources=len(eligible),
        eligible=int(eligible.sum()),
        clean_accuracy=_mean(recognised, suite),
        reconstruction_error=_mean(error, suite),
        kl=_measured(joined["kl"], suite),
        total_correlation=_number(gaussian_total_correlation(joined["mean"])),
        robust_area=_area(suite, joined),
        eps50=_eps50(suite, joined),
        per_eps=tuple(_at_eps(suite, joined, e, classes) for e in range(len(suite.eps))),
        damage=damage_of(suite, joined),
    )


def attack_costs(suite: Suite, joined: dict[str, Tensor]) -> tuple[AttackCost, ...]:
    """What each attack tried, reached and cost."""
    rows: list[tuple[str, dict[str, Any]]] = [(e.label, e.settings) for e in suite.attacks]
    rows += [(label, {}) for label in DIAGNOSTICS]
    return tuple(
        AttackCost(
            label=label,
            settings=settings,
            tried=tuple(joined["tried"][a].tolist()),
            succeeded=tuple(joined["succeeded"][a].tolist()),
            forwards=int(joined["forwards"][a].sum()),
            backwards=int(joined["backwards"][a].sum()),
        )
        for a, (label, settings) in enumerate(rows)
    )


def shown(suite: Suite, joined: dict[str, Tensor]) -> list[int]:
    """Positions of the first eligible source of each class, before anything is known of its attack.

    Without classes of the first few.
    """
    label = joined["label"]
    each = 1 if RULES.get(suite.rule).labelled else EXAMPLES
    chosen = []
    for c in label.unique().tolist():
        positions = (joined["eligible"] & (label == c)).nonzero()[:, 0]
        chosen += positions[:each].tolist()
    return chosen


def examples(suite: Suite, joined: dict[str, Tensor]) -> list[Example]:
    """The sources to show, with the worst that was found for each."""
    label = joined["label"]
    return [
        Example(
            sample_id=suite.sample_ids[i],
            label=int(label[i]),
            source=joined["source"][i],
            reconstruction=joined["reconstruction"][i],
            attacked=tuple(
                Attacked(
                    eps=suite.eps[e],
                    x_adv=joined["ignore.x_adv"][i],
                    reconstruction=joined["ignore.reconstruction"][i],
                    shows=int(joined["ignore.verdict"][i]),
                )
                for e in [int(joined["ignore.radius"][i])]
                if e < len(suite.eps)
            ),
        )
        for i in shown(suite, joined)
    ]


def _at_eps(suite: Suite, joined: dict[str, Tensor], e: int, classes: int) -> EpsScores:
    eligible = joined["eligible"]
    ignore, target = joined["ignore.radius"] <= e, joined["target.radius"] <= e
    pairs = (joined["label"], joined["target_label"], eligible, classes)
    of_ignore, of_target = success_rate(ignore, *pairs), success_rate(target, *pairs)
    of_wrong = success_rate(target, *pairs[:2], eligible & ignore, classes)
    x_adv, source = joined["ignore.x_adv"][ignore], joined["source"][ignore]

    def over_successes(values: Tensor) -> float | None:
        return _number(float(values[ignore].double().mean()))

    return EpsScores(
        eps=suite.eps[e],
        robust_accuracy=_mean(eligible & ~ignore, suite),
        as_ignore_target=_mean(ignore[eligible], suite) if eligible.any() else None,
        as_target=_mean(target[eligible], suite) if eligible.any() else None,
        as_ignore_target_macro=_number(of_ignore.macro),
        as_target_macro=_number(of_target.macro),
        as_target_of_wrong=_number(of_wrong.pooled),
        as_ignore_target_pairs=_matrix(of_ignore),
        as_target_pairs=_matrix(of_target),
        linf=_number(float(linf(x_adv, source).mean())),
        l2=_number(float(l2(x_adv, source).mean())),
        reconstruction_shift=over_successes(
            l2(joined["ignore.reconstruction"], joined["reconstruction"])
        ),
        source_similarity=over_successes(joined["ignore.source_similarity"]),
        reconstruction_similarity=over_successes(joined["ignore.reconstruction_similarity"]),
        latent_displacement=over_successes(joined["ignore.displacement"]),
        symmetric_kl=over_successes(joined["ignore.symmetric_kl"]),
    )


def _area(suite: Suite, joined: dict[str, Tensor]) -> Estimate | None:
    """The mean over sources of each one's own area: the trapezoids are linear in the sources."""
    radii, shares = _above_zero(suite, _standing(suite, joined))
    if not radii:
        return None
    clean = joined["eligible"].double()
    areas = [
        robust_area(radii, column.tolist(), float(start))
        for column, start in zip(shares.T, clean, strict=True)
    ]
    return _mean(torch.tensor(areas, dtype=torch.float64), suite)


def _eps50(suite: Suite, joined: dict[str, Tensor]) -> float | None:
    radii, shares = _above_zero(suite, _standing(suite, joined))
    if not radii:
        return None
    return _number(eps50(radii, shares.mean(1).tolist(), float(joined["eligible"].double().mean())))


def _standing(suite: Suite, joined: dict[str, Tensor]) -> Tensor:
    """Which eligible sources stand at each radius, (E, N), as numbers."""
    positions = torch.arange(len(suite.eps))[:, None]
    return (joined["eligible"] & (joined["ignore.radius"] > positions)).double()


def _above_zero(suite: Suite, per_eps: Tensor) -> tuple[list[float], Tensor]:
    """The radii above 0 and their rows: the value at 0 is known without an attack."""
    chosen = [e for e, radius in enumerate(suite.eps) if radius > 0]
    return [suite.eps[e] for e in chosen], per_eps[chosen]


def _number(value: float) -> float | None:
    """JSON has neither NaN nor infinity: None says that there is no such number."""
    return value if math.isfinite(value) else None


def _matrix(rate: SuccessRate) -> PairMatrix:
    rates = tuple(tuple(_number(value) for value in row) for row in rate.pairs.tolist())
    return PairMatrix(rate=rates, n=tuple(map(tuple, rate.n.tolist())))


def _mean(values: Tensor, suite: Suite) -> Estimate:
    """The mean with its interval."""
    return estimates(values.double().numpy()[None], suite)[0]


def _measured(values: Tensor, suite: Suite) -> Estimate | None:
    """Likewise of what may be too large for a number."""
    mean = float(values.double().mean())
    return _mean(values, suite) if math.isfinite(mean) else None
