"""Signs that an attack was fooled rather than the model robust: each with its evidence.

After Carlini et al. 2019, "On evaluating adversarial robustness", and the checks of AutoAttack
(Croce & Hein 2020). A flagged score is an upper bound that may be far too high.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from torch import Tensor

from genrobust.outcomes.association import stand_more_often
from genrobust.outcomes.damage import reconstructed
from genrobust.outcomes.marks import HOLDS, Mark, marks, misjudged
from genrobust.outcomes.outcome import Counts, Damaged, Guidance, Longer, Short, Signs
from genrobust.records.record import Flag
from genrobust.rules.base import RULES
from genrobust.rules.line import LINE
from genrobust.suites.suite import Suite

#: Shares above which a flag is raised.
DISAGREE = 0.1
BLACK_BOX = 0.05
FEWER = 0.05
RESTARTS = 0.25
LONGER = 0.05
#: Eligible sources below which intervals say little, in number and as a share of the sources.
FEW, FEW_SHARE = 20, 0.5
#: Of how many sources a class must be to count, the share of them below which it is lost, and the
#: share of classes that may be. Honest models of digits lose none, however blurred.
MEMBERS, SHOWN, LOST = 5, 0.1, 0.25
#: Share of the sources that are reconstructed no better than by one picture for all. Of sound
#: models, the published ones too, it is 5% at most; of untrained ones all of them.
UNLIKE = 0.25
#: The share that stands in the whole box. Ten steps that large leave up to 0.6 of honest VAEs of
#: faces standing by a judge of smiles; what hides its gradient leaves all.
UNBOUNDED = 0.75
#: By how much a change of the picture must grow where the radius doubles, the share of sources that
#: stand where it does not, and the share that must stand for it to count.
GROWTH, STILL, UNBROKEN = 1.1, 0.5, 0.5
#: The part of its source's movement that a reconstruction keeps of which about half is let go, and
#: the share of the sources that must stand and be so held for it to count. Of all entries of the
#: leaderboard 0.05 at most do, and 0.3 of what stands where more than a few do; of codes from a
#: list of 8 0.3, and 0.4.
HALF, UPHELD = 0.5, 0.25
#: Attacks that use no gradient.
GRADIENT_FREE = ("noise", "square")


def raised(
    suite: Suite,
    eligible: Tensor,
    signs: Signs,
    counts: Counts,
    damaged: Damaged | None = None,
    radius: Tensor | None = None,
    label: Tensor | None = None,
) -> tuple[Flag, ...]:
    """The flags of a run: what is beyond its limit.

    ``radius`` is the position of the first radius that broke each source, ``label`` its class.
    """
    found: list[Flag | None] = [] if label is None else [_lost(label, eligible)]
    rule = RULES.get(suite.rule)
    found += [_unlike(damaged)] if damaged is not None and rule.shows_source else []
    if damaged is not None and radius is not None:
        found.append(_still(suite, damaged, eligible, radius))
    if radius is not None and rule.labelled:
        found.append(_upheld(suite, signs, eligible, radius))
    guidance, short = signs.guidance, signs.short
    told = [*marks(signs, rule.labelled)]
    told += [misjudged(guidance, label)] if rule.labelled and label is not None else []
    found += _marked(suite, told, eligible, radius)
    found += [_surrogate(suite, guidance, short, eligible)]
    found += [_larger_eps(suite, short, eligible), _restarts(suite, short, eligible)]
    found += [] if signs.longer is None else [_longer(signs.longer, eligible)]
    found += [_unbounded(short.unbounded, eligible)]
    found += _black_box(suite, counts)
    beyond = [flag for flag in found if flag is not None and flag.value > flag.limit]
    return tuple(filter(None, [_few(suite, eligible), *beyond]))


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


def _lost(label: Tensor, eligible: Tensor) -> Flag | None:
    """A model that draws one class whatever it is given keeps that class under any attack."""
    counted, sources = label.unique(return_counts=True)
    counted = counted[sources >= MEMBERS]
    if len(counted) < 2:
        return None
    lost = sum(_share(eligible[label == one]) < SHOWN for one in counted)
    return Flag(
        name="classes are lost",
        evidence=f"of {lost} of the {len(counted)} classes fewer than {SHOWN:.0%} of the sources "
        "are reconstructed right without an attack: what stands may be what is drawn of anything",
        value=lost / len(counted),
        limit=LOST,
    )


def _unlike(damaged: Damaged) -> Flag:
    """What is not reconstructed cannot be damaged: that it stands still is no robustness."""
    share = _share(~reconstructed(damaged))
    return Flag(
        name="does not reconstruct",
        evidence=f"without an attack the reconstructions of {share:.0%} of the sources are no "
        f"nearer to them than {LINE:g} of the distance of one picture for all, the data set's mean",
        value=share,
        limit=UNLIKE,
    )


def _marked(
    suite: Suite, found: Sequence[Mark], eligible: Tensor, radius: Tensor | None
) -> Iterator[Flag]:
    """Signs that many of the sources bear, or those that stand."""
    few: dict[str, Mark] = {}
    for mark in found:
        asked = eligible if mark.asked is None else eligible & mark.asked
        share = _share(mark.borne[asked])
        if share <= mark.limit:
            few[mark.name] = replace(mark, borne=(mark.borne & asked)[eligible])
            continue
        yield Flag(
            name=mark.name,
            evidence=f"for {share:.0%} of the eligible sources {mark.what}",
            value=share,
            limit=mark.limit,
        )
    if radius is None:
        return
    borne = {name: mark.borne for name, mark in few.items()}
    for table, limit in stand_more_often(borne, radius[eligible], len(suite.eps)):
        yield Flag(
            name=table.name,
            evidence=f"for {table.bearing} of the {table.sources} eligible sources, which stand "
            f"more often than the others (at eps {suite.eps[table.radius]:g} {table.both} of them "
            f"and {table.standing - table.both} of the other {table.sources - table.bearing}), "
            f"{few[table.name].what}",
            value=table.both / table.sources,
            limit=limit / table.sources,
        )


def _longer(longer: Longer, eligible: Tensor) -> Flag | None:
    tried, fell = longer.tried[eligible], longer.success[eligible]
    if int(fell.sum()) < 2:
        return None
    return Flag(
        name="loss still falling at the last step",
        evidence=f"with twice the steps the attack on the judge broke {int(fell.sum())} of the "
        f"{int(tried.sum())} sources that had stood at the radius it was given",
        value=_share(fell),
        limit=LONGER,
    )


def _unbounded(fooled: Tensor, eligible: Tensor) -> Flag:
    """Inside the whole box there is an image of another class for every model."""
    share = _share(~fooled[eligible])
    return Flag(
        name="stands in the whole box",
        evidence=f"a short attack that may change every pixel as it likes leaves {share:.0%} of "
        "the eligible sources standing; look for what hides the gradient",
        value=share,
        limit=UNBOUNDED,
    )


def _still(suite: Suite, damaged: Damaged, eligible: Tensor, radius: Tensor) -> Flag | None:
    """What stands moves farther in a larger ball, unless something holds it."""
    unbroken = eligible & (radius == len(suite.eps))
    start = next((e for e, eps in enumerate(suite.eps) if eps), None)  # nothing moves at eps 0
    if damaged.attacked_shift is None or start is None or suite.eps[-1] < 2 * suite.eps[start]:
        return None
    if not unbroken.any() or _share(unbroken[eligible]) <= UNBROKEN:
        return None
    first, last = damaged.attacked_shift[start, unbroken], damaged.attacked_shift[-1, unbroken]
    share = _share(~(last >= GROWTH * first))
    return Flag(
        name="damage does not grow with the radius",
        evidence=f"for {share:.0%} of the sources that stand at eps {suite.eps[-1]:g} attacks move "
        f"the reconstruction no farther there than at eps {suite.eps[start]:g}; attack the model "
        "without what holds its reconstructions",
        value=share,
        limit=STILL,
    )


def _upheld(suite: Suite, signs: Signs, eligible: Tensor, radius: Tensor) -> Flag | None:
    """What stands because a half of it is held, or all of it for a part of the sources.

    Of honest models what an attack has moved and not broken follows noise as its source does; but
    not where attacks seek the largest damage of all, which is where pictures saturate.
    """
    stands = eligible & (radius == len(suite.eps))
    held = stands & ~(signs.response_attacked >= HALF)
    if _share(held[eligible]) <= UPHELD:
        return None
    share = _share(held[stands])
    return Flag(
        name="what stands is held",
        evidence=f"for {share:.0%} of the sources that stand at eps {suite.eps[-1]:g} noise moves "
        f"the reconstruction of an attacked image by less than {HALF:g} of what it moves its "
        "source's; attack the model without what lets go of a part of the given image there",
        value=share,
        limit=HOLDS,
    )


def _surrogate(suite: Suite, guidance: Guidance, short: Short, eligible: Tensor) -> Flag:
    """Attacks are led by the surrogate: what they change there they must change for real."""
    share = _share((guidance.surrogate_label != guidance.deployed_label)[eligible])
    told = "the attacker's judge sees different classes in the two reconstructions"
    if not RULES.get(suite.rule).labelled:
        told = "one of the two reconstructions is like the source and the other is not"
    evidence = f"on {share:.0%} of the eligible sources {told}"
    if share <= DISAGREE and len(short.stopped):
        shares = [_share(mask[eligible]) for mask in short.stopped]
        share = max(shares)
        evidence = (
            f"a short attack at eps {suite.eps[shares.index(share)]:g} changes the class of "
            f"{share:.0%} of the eligible sources on the surrogate but not on the deployed path"
        )
    return Flag(
        name="surrogate and deployed path disagree",
        evidence=evidence,
        value=share,
        limit=DISAGREE,
    )


def _larger_eps(suite: Suite, short: Short, eligible: Tensor) -> Flag | None:
    shares = [_share(success[eligible]) for success in short.success]
    # Of counts, as 0.9 - 0.85 is above 0.05.
    counts = [int(success[eligible].sum()) for success in short.success]
    drops = [(before - after) / max(int(eligible.sum()), 1) for before, after in pairwise(counts)]
    if not drops:
        return None
    worst = max(drops)
    e = drops.index(worst)
    return Flag(
        name="a larger eps succeeds less",
        evidence=f"a short attack changes {shares[e]:.0%} at eps {suite.eps[e]:g} and "
        f"{shares[e + 1]:.0%} at eps {suite.eps[e + 1]:g}",
        value=worst,
        limit=FEWER,
    )


def _restarts(suite: Suite, short: Short, eligible: Tensor) -> Flag | None:
    shares = [_share(mask[eligible]) for mask in short.success != short.again]
    if not shares:
        return None
    worst = max(shares)
    return Flag(
        name="restarts disagree",
        evidence=f"at eps {suite.eps[shares.index(worst)]:g} two starts of a short attack differ "
        f"on {worst:.0%} of the eligible sources",
        value=worst,
        limit=RESTARTS,
    )


def _black_box(suite: Suite, counts: Counts) -> Iterator[Flag]:
    labels = [entry.attack for entry in suite.attacks]
    if not set(labels) - set(GRADIENT_FREE):
        return  # no gradient attack ran that could be beaten
    for a, entry in enumerate(suite.attacks):
        if entry.attack != "square":
            continue
        for e, eps in enumerate(suite.eps):
            tried, succeeded = int(counts.tried[a, e]), int(counts.succeeded[a, e])
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
