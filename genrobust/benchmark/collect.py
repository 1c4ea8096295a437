"""From shard results to scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrobust.benchmark.record import AttackCost, EpsScores, Estimate, PairMatrix, Scores
from genrobust.benchmark.shard import Measured
from genrobust.report.examples import Attacked, Example
from genrobust.seeding import seed_of
from genrobust.suites.suite import Suite

Array = NDArray[np.float64]

_PER_ATTACK = ("tried", "succeeded", "forwards", "backwards")


def join(shards: Sequence[Measured]) -> dict[str, Tensor]:
    """One set of tensors over all samples, in the order of the shards; counts are summed."""
    joined = {}
    for name in shards[0].tensors:
        parts = [shard.tensors[name] for shard in shards]
        if name in _PER_ATTACK:
            joined[name] = torch.stack(parts).sum(0)
        else:
            joined[name] = torch.cat(parts, 1 if "." in name else 0)
    return joined


def score(suite: Suite, joined: dict[str, Tensor], classes: int) -> Scores:
    """The suite's scores from joined shard results."""
    label = joined["label"]
    recognised = joined["clean_verdict"] == label
    eligible = recognised & (joined["input_verdict"] == label)
    error = (joined["reconstruction"] - joined["source"]).flatten(1).square().sum(1)
    return Scores(
        sources=len(label),
        eligible=int(eligible.sum()),
        clean_accuracy=_mean(recognised, suite),
        reconstruction_error=_mean(error, suite),
        per_eps=tuple(_at_eps(suite, joined, eligible, e, classes) for e in range(len(suite.eps))),
    )


def attack_costs(suite: Suite, joined: dict[str, Tensor]) -> tuple[AttackCost, ...]:
    """What each attack tried, reached and cost."""
    return tuple(
        AttackCost(
            label=entry.label,
            settings=entry.settings,
            tried=tuple(joined["tried"][a].tolist()),
            succeeded=tuple(joined["succeeded"][a].tolist()),
            forwards=int(joined["forwards"][a]),
            backwards=int(joined["backwards"][a]),
        )
        for a, entry in enumerate(suite.attacks)
    )


def examples(suite: Suite, joined: dict[str, Tensor]) -> list[Example]:
    """The first eligible source of each class: chosen before anything is known of its attack."""
    label = joined["label"]
    eligible = (joined["clean_verdict"] == label) & (joined["input_verdict"] == label)
    chosen = []
    for c in label.unique().tolist():
        positions = (eligible & (label == c)).nonzero()[:, 0]
        chosen += positions[:1].tolist()
    return [
        Example(
            sample_id=suite.sample_ids[i],
            label=int(label[i]),
            source=joined["source"][i],
            reconstruction=joined["reconstruction"][i],
            attacked=tuple(
                Attacked(
                    eps=eps,
                    x_adv=joined["ignore.x_adv"][e, i],
                    reconstruction=joined["ignore.reconstruction"][e, i],
                    shows=int(joined["ignore.verdict"][e, i]),
                    success=bool(joined["ignore.success"][e, i]),
                )
                for e, eps in enumerate(suite.eps)
            ),
        )
        for i in chosen
    ]


def _at_eps(
    suite: Suite, joined: dict[str, Tensor], eligible: Tensor, e: int, classes: int
) -> EpsScores:
    ignore, target = joined["ignore.success"][e], joined["target.success"][e]
    pair = joined["label"] * classes + joined["target_label"]
    ignore_pairs = _pairs(ignore, pair, eligible, classes)
    target_pairs = _pairs(target, pair, eligible, classes)
    change = (joined["ignore.x_adv"][e] - joined["source"]).flatten(1)[ignore]
    shift = (joined["ignore.reconstruction"][e] - joined["reconstruction"]).flatten(1).norm(dim=1)
    wrong = int((ignore & eligible).sum())
    return EpsScores(
        eps=suite.eps[e],
        robust_accuracy=_mean(eligible & ~ignore, suite),
        as_ignore_target=_mean(ignore[eligible], suite) if eligible.any() else None,
        as_target=_mean(target[eligible], suite) if eligible.any() else None,
        as_ignore_target_macro=_macro(ignore_pairs),
        as_target_macro=_macro(target_pairs),
        as_target_of_wrong=float((target & ignore & eligible).sum()) / wrong if wrong else None,
        as_ignore_target_pairs=ignore_pairs,
        as_target_pairs=target_pairs,
        linf=float(change.abs().amax(1).mean()) if len(change) else None,
        l2=float(change.norm(dim=1).mean()) if len(change) else None,
        reconstruction_shift=float(shift[eligible].mean()) if eligible.any() else None,
    )


def _mean(values: Tensor, suite: Suite) -> Estimate:
    """The mean with its percentile bootstrap interval, seeded by the suite and the values' place.

    Every estimate of a run resamples the same sources in the same order, so that estimates of two
    runs on one suite may be compared pair by pair.
    """
    data: Array = values.double().numpy()
    value = float(data.mean())
    if len(data) < 2 or float(data.std()) == 0:
        return Estimate(value=value, low=value, high=value, n=len(data))
    from scipy.stats import bootstrap

    found = bootstrap(
        (data,),
        np.mean,
        n_resamples=suite.resamples,
        confidence_level=suite.confidence,
        method="percentile",
        rng=np.random.default_rng(seed_of("bootstrap", suite.name, suite.version)),
    ).confidence_interval
    return Estimate(value=value, low=float(found.low), high=float(found.high), n=len(data))


def _pairs(success: Tensor, pair: Tensor, eligible: Tensor, classes: int) -> PairMatrix:
    chosen = pair[eligible]
    total = torch.bincount(chosen, minlength=classes**2).view(classes, classes)
    hits = torch.bincount(chosen[success[eligible]], minlength=classes**2).view(classes, classes)
    rate = tuple(
        tuple(h / n if n else None for h, n in zip(hit_row, n_row, strict=True))
        for hit_row, n_row in zip(hits.tolist(), total.tolist(), strict=True)
    )
    return PairMatrix(rate=rate, n=tuple(map(tuple, total.tolist())))


def _macro(pairs: PairMatrix) -> float | None:
    rates = [rate for row in pairs.rate for rate in row if rate is not None]
    return sum(rates) / len(rates) if rates else None
