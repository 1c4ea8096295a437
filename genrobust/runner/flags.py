"""Signs that an attack was fooled rather than the model robust: each with its evidence.

After Carlini et al. 2019, "On evaluating adversarial robustness", and the checks of AutoAttack
(Croce & Hein 2020). A flagged score is an upper bound that may be far too high.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from genrobust.records.record import Flag
from genrobust.rules.line import LINE
from genrobust.suites.suite import Suite

#: Shares above which a flag is raised.
VANISHED = 0.1
DISAGREE = 0.1
BLACK_BOX = 0.05
FEWER = 0.05
RESTARTS = 0.25
LONGER = 0.05
#: Cosine of two gradients a thousandth of the pixel range apart, and the share below it.
ALIKE, RANDOM = 0.5, 0.25
#: Part of the fall that a gradient promises, and the share that falls less.
KEPT, MISLED = 0.1, 0.25
#: Eligible sources below which intervals say little, in number and as a share of the sources.
FEW, FEW_SHARE = 20, 0.5
#: Share of the sources that are reconstructed no better than by one picture for all. Of sound
#: models, the published ones too, it is 5% at most; of untrained ones all of them.
UNLIKE = 0.25
#: Attacks that use no gradient.
GRADIENT_FREE = ("noise", "square")


def raised(suite: Suite, joined: dict[str, Tensor]) -> tuple[Flag, ...]:
    """The flags of a run, from its joined shard results."""
    eligible = joined["eligible"]
    found: list[Flag | None] = [_few(suite, eligible)]
    if "damage.clean" in joined:  # which older runs lack
        found += [_unlike(joined)]
    if "gradient_norm" in joined:  # an attacker's judge was at hand
        found += [_gradients(joined, eligible), _random(joined, eligible)]
        found += [_mislead(joined, eligible), _surrogate(suite, joined, eligible)]
        found += [_larger_eps(suite, joined, eligible), _restarts(suite, joined, eligible)]
    if "longer.success" in joined:
        found += [_longer(joined, eligible)]
    found += _black_box(suite, joined)
    return tuple(flag for flag in found if flag is not None)


def _few(suite: Suite, eligible: Tensor) -> Flag | None:
    count, total = int(eligible.sum()), len(eligible)
    if count >= FEW and count >= FEW_SHARE * total:
        return None
    return Flag(
        name="few eligible sources",
        evidence=f"only {count} sources (of {total}) are reconstructed right without an attack; "
        f"{FEW}, and half of them, are the least that say something",
        value=count / total,
        limit=max(FEW_SHARE, FEW / total),
    )


def _unlike(joined: dict[str, Tensor]) -> Flag | None:
    """What is not reconstructed cannot be damaged: that it stands still is no robustness."""
    share = _share(~(joined["damage.clean"].double() < LINE * joined["damage.constant"].double()))
    if share <= UNLIKE:
        return None
    return Flag(
        name="does not reconstruct",
        evidence=f"without an attack the reconstructions of {share:.0%} of the sources are no "
        f"nearer to them than {LINE:g} of the distance of one picture for all, the data set's mean",
        value=share,
        limit=UNLIKE,
    )


def _gradients(joined: dict[str, Tensor], eligible: Tensor) -> Flag | None:
    norm = joined["gradient_norm"][eligible]
    share = _share((norm == 0) | ~norm.isfinite())
    if share <= VANISHED:
        return None
    return Flag(
        name="gradients vanish",
        evidence=f"for {share:.0%} of the eligible sources the judge's margin on the surrogate "
        "reconstruction has a zero or infinite gradient",
        value=share,
        limit=VANISHED,
    )


def _random(joined: dict[str, Tensor], eligible: Tensor) -> Flag | None:
    """A gradient that is another one right beside says nothing of where the loss falls."""
    usable = eligible & (joined["gradient_norm"] > 0)
    share = _share(joined["gradient_cosine"][usable] < ALIKE)
    if share <= RANDOM:
        return None
    return Flag(
        name="gradients are random",
        evidence=f"for {share:.0%} of the eligible sources the gradient of the judge's margin "
        f"turns by more than 60 degrees within a thousandth of the pixel range",
        value=share,
        limit=RANDOM,
    )


def _mislead(joined: dict[str, Tensor], eligible: Tensor) -> Flag | None:
    """A gradient may be smooth and yet that of something else."""
    if "descent" not in joined:  # which older runs lack
        return None
    usable = eligible & (joined["gradient_norm"] > 0)
    fell, promised = joined["descent"][usable], joined["descent_promised"][usable]
    share = _share(~(fell >= KEPT * promised))
    if share <= MISLED:
        return None
    return Flag(
        name="gradients mislead",
        evidence=f"for {share:.0%} of the eligible sources a step of a hundredth of the pixel "
        "range down the gradient lowers the judge's margin by less than a tenth of what the "
        "gradient promises",
        value=share,
        limit=MISLED,
    )


def _longer(joined: dict[str, Tensor], eligible: Tensor) -> Flag | None:
    tried, fell = joined["longer.tried"][eligible], joined["longer.success"][eligible]
    share = _share(fell)
    if share <= LONGER or int(fell.sum()) < 2:
        return None
    return Flag(
        name="loss still falling at the last step",
        evidence=f"with twice the steps the attack on the judge broke {int(fell.sum())} of the "
        f"{int(tried.sum())} sources that had stood at the radius it was given",
        value=share,
        limit=LONGER,
    )


def _surrogate(suite: Suite, joined: dict[str, Tensor], eligible: Tensor) -> Flag | None:
    """Attacks are led by the surrogate: what they change there they must change for real."""
    share = _share((joined["surrogate_label"] != joined["deployed_label"])[eligible])
    evidence = (
        f"on {share:.0%} of the eligible sources the attacker's judge sees different classes in "
        "the two reconstructions"
    )
    if share <= DISAGREE and "probe.stopped" in joined:  # which older runs lack
        shares = [_share(mask[eligible]) for mask in joined["probe.stopped"]]
        share = max(shares, default=0.0)
        if share > DISAGREE:
            evidence = (
                f"a short attack at eps {suite.eps[shares.index(share)]:g} changes the class of "
                f"{share:.0%} of the eligible sources on the surrogate but not on the deployed path"
            )
    if share <= DISAGREE:
        return None
    return Flag(
        name="surrogate and deployed path disagree",
        evidence=evidence,
        value=share,
        limit=DISAGREE,
    )


def _larger_eps(suite: Suite, joined: dict[str, Tensor], eligible: Tensor) -> Flag | None:
    shares = [_share(success[eligible]) for success in joined["probe.success"]]
    drops = [before - after for before, after in pairwise(shares)]
    worst = max(drops, default=0.0)
    if worst <= FEWER:
        return None
    e = drops.index(worst)
    return Flag(
        name="a larger eps succeeds less",
        evidence=f"a short attack changes {shares[e]:.0%} at eps {suite.eps[e]:g} and "
        f"{shares[e + 1]:.0%} at eps {suite.eps[e + 1]:g}",
        value=worst,
        limit=FEWER,
    )


def _restarts(suite: Suite, joined: dict[str, Tensor], eligible: Tensor) -> Flag | None:
    differ = joined["probe.success"] != joined["probe.again"]
    shares = [_share(mask[eligible]) for mask in differ]
    worst = max(shares, default=0.0)
    if worst <= RESTARTS:
        return None
    return Flag(
        name="restarts disagree",
        evidence=f"at eps {suite.eps[shares.index(worst)]:g} two starts of a short attack differ "
        f"on {worst:.0%} of the eligible sources",
        value=worst,
        limit=RESTARTS,
    )


def _black_box(suite: Suite, joined: dict[str, Tensor]) -> Iterator[Flag]:
    labels = [entry.attack for entry in suite.attacks]
    if not set(labels) - set(GRADIENT_FREE):
        return  # no gradient attack ran that could be beaten
    for a, entry in enumerate(suite.attacks):
        if entry.attack != "square":
            continue
        for e, eps in enumerate(suite.eps):
            tried, succeeded = int(joined["tried"][a, e]), int(joined["succeeded"][a, e])
            if succeeded >= 2 and succeeded > BLACK_BOX * tried:
                yield Flag(
                    name="a gradient-free attack beats the gradient ones",
                    evidence=f"at eps {eps:g} {entry.label} changed {succeeded} of the {tried} "
                    "sources that all gradient attacks before it had left",
                    value=succeeded / tried,
                    limit=BLACK_BOX,
                )


def _share(mask: Tensor) -> float:
    return float(mask.double().mean()) if len(mask) else 0.0
