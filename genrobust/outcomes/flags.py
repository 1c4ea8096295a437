"""Signs that an attack was fooled rather than the model robust: each with its evidence.

After Carlini et al. 2019, "On evaluating adversarial robustness", and the checks of AutoAttack
(Croce & Hein 2020). A flagged score is an upper bound that may be far too high.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from genrobust.outcomes.damage import reconstructed
from genrobust.outcomes.outcome import (
    Counts,
    Damaged,
    Directional,
    Guidance,
    Longer,
    Short,
    Signs,
)
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
#: Of how many sources a class must be to count, the share of them below which it is lost, and the
#: share of classes that may be. Honest models of digits lose none, however blurred.
MEMBERS, SHOWN, LOST = 5, 0.1, 0.25
#: Share of the sources that are reconstructed no better than by one picture for all. Of sound
#: models, the published ones too, it is 5% at most; of untrained ones all of them.
UNLIKE = 0.25
#: Cosine of what a model does along directions with what its gradient says, and the share of the
#: sources where it is less. Of honest models, odd ones too, it is above at nine of ten; of one that
#: declares a rippled deployment 0.9 is above at too few.
ALONG, WRONG = 0.8, 0.25
#: The part of a way's change that is a jump, and the share of the sources; of honest models it is
#: 0.05 at most, of a deployment that rounds its input to 64 levels a quarter.
JUMP, JUMPY = 0.5, 0.25
#: The part of a change of the image that its reconstruction follows, and the share of the sources;
#: of honest models it is 0.1 or more.
RESPONSE, STIFF = 0.01, 0.25
#: The part of its source's movement that an attacked image's reconstruction keeps, and the share
#: of the sources where it is less. Of honest models of digits and MNIST it is less at 0.15 at most,
#: where codes are coarsely quantised at 0.27; where a gate shuts on rough images at 0.88 and more.
HELD, HOLDS = 0.25, 0.6
#: The part of a fall of the margin down a smoothed gradient that the own one misses, and the share
#: of the sources where it is more. Of honest models it is more at 0.27 at most, of a network that
#: a step of 0.03 takes far; of rippled ones at 0.64 and more.
GAIN, RIPPLED = 0.4, 0.45
#: Logits by which a category leads beyond which others have next to no gradient, and the share of
#: the sources; in float32 probabilities end at 87. Of honest models it is 50 at most.
LEAD, TOO_SURE = 60.0, 0.25
#: The part of what the decoder does that hangs on code which no gradient reaches, and the share of
#: the sources where it is more.
HIDDEN, UNREACHED = 0.3, 0.25
#: The share that stands in the whole box. Ten steps that large leave up to 0.6 of honest VAEs of
#: faces standing by a judge of smiles; what hides its gradient leaves all.
UNBOUNDED = 0.75
#: By how much a change of the picture must grow where the radius doubles, the share of sources that
#: stand where it does not, and the share that must stand for it to count.
GROWTH, STILL, UNBROKEN = 1.1, 0.5, 0.5
#: Attacks that use no gradient.
GRADIENT_FREE = ("noise", "square")


def raised(
    suite: Suite,
    eligible: Tensor,
    signs: Signs | None,
    counts: Counts,
    damaged: Damaged | None = None,
    radius: Tensor | None = None,
    label: Tensor | None = None,
) -> tuple[Flag, ...]:
    """The flags of a run; without ``signs``, as without an attacker's judge, few can be told.

    ``radius`` is the position of the first radius that broke each source, ``label`` its class.
    """
    found: list[Flag | None] = [_few(suite, eligible)]
    found += [] if label is None else [_lost(label, eligible)]
    found += [] if damaged is None else [_unlike(damaged)]
    if damaged is not None and radius is not None:
        found.append(_still(suite, damaged, eligible, radius))
    if signs is not None:
        guidance, short = signs.guidance, signs.short
        found += [_gradients(guidance, eligible), _random(guidance, eligible)]
        found += [_mislead(guidance, eligible), _surrogate(suite, guidance, short, eligible)]
        found += [_larger_eps(suite, short, eligible), _restarts(suite, short, eligible)]
        found += [] if signs.longer is None else [_longer(signs.longer, eligible)]
        found += [] if short.unbounded is None else [_unbounded(short.unbounded, eligible)]
        if guidance.smoothed_gain is not None:
            found.append(_rippled(guidance.smoothed_gain, eligible))
        if guidance.directional is not None:
            found += _directional(guidance.directional, eligible)
        if signs.along_attacked is not None:
            found.append(_attacked(signs.along_attacked, eligible))
        if signs.response_attacked is not None:
            found.append(_held(signs.response_attacked, eligible))
    found += _black_box(suite, counts)
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


def _lost(label: Tensor, eligible: Tensor) -> Flag | None:
    """A model that draws one class whatever it is given keeps that class under any attack."""
    counted, sources = label.unique(return_counts=True)
    counted = counted[sources >= MEMBERS]
    if len(counted) < 2:
        return None
    lost = sum(_share(eligible[label == one]) < SHOWN for one in counted)
    if lost <= LOST * len(counted):
        return None
    return Flag(
        name="classes are lost",
        evidence=f"of {lost} of the {len(counted)} classes fewer than {SHOWN:.0%} of the sources "
        "are reconstructed right without an attack: what stands may be what is drawn of anything",
        value=lost / len(counted),
        limit=LOST,
    )


def _unlike(damaged: Damaged) -> Flag | None:
    """What is not reconstructed cannot be damaged: that it stands still is no robustness."""
    share = _share(~reconstructed(damaged))
    if share <= UNLIKE:
        return None
    return Flag(
        name="does not reconstruct",
        evidence=f"without an attack the reconstructions of {share:.0%} of the sources are no "
        f"nearer to them than {LINE:g} of the distance of one picture for all, the data set's mean",
        value=share,
        limit=UNLIKE,
    )


def _gradients(guidance: Guidance, eligible: Tensor) -> Flag | None:
    norm = guidance.gradient_norm[eligible]
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


def _random(guidance: Guidance, eligible: Tensor) -> Flag | None:
    """A gradient that is another one right beside says nothing of where the loss falls."""
    usable = eligible & (guidance.gradient_norm > 0)
    share = _share(guidance.gradient_cosine[usable] < ALIKE)
    if share <= RANDOM:
        return None
    return Flag(
        name="gradients are random",
        evidence=f"for {share:.0%} of the eligible sources the gradient of the judge's margin "
        f"turns by more than 60 degrees within a thousandth of the pixel range",
        value=share,
        limit=RANDOM,
    )


def _mislead(guidance: Guidance, eligible: Tensor) -> Flag | None:
    """A gradient may be smooth and yet that of something else."""
    if guidance.descent is None or guidance.descent_promised is None:  # as in older runs
        return None
    usable = eligible & (guidance.gradient_norm > 0)
    relaxed = guidance.descent_relaxed
    descent = guidance.descent if relaxed is None else relaxed
    fell, promised = descent[usable], guidance.descent_promised[usable]
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


def _longer(longer: Longer, eligible: Tensor) -> Flag | None:
    tried, fell = longer.tried[eligible], longer.success[eligible]
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


def _directional(seen: Directional, eligible: Tensor) -> Iterator[Flag]:
    """What needs no attack: differences beside gradients, and reconstructions on short ways."""
    cosines = seen.along if seen.along_either is None else seen.along_either
    along = _share(~(cosines[eligible] >= ALONG))
    if along > WRONG:
        yield Flag(
            name="gradients are wrong in part",
            evidence=f"for {along:.0%} of the eligible sources the gradient of the judge's margin "
            f"has a cosine below {ALONG:g} with finite differences; let gradients pass, or give "
            "the path that they take as encode= and decode= beside deploy=",
            value=along,
            limit=WRONG,
        )
    cosines = seen.along_latent if seen.along_latent_either is None else seen.along_latent_either
    latent = _share(~(cosines[eligible] >= ALONG))
    if latent > WRONG:
        yield Flag(
            name="latents without a true gradient",
            evidence=f"for {latent:.0%} of the eligible sources a latent that moves with the image "
            f"has a gradient whose cosine with finite differences is below {ALONG:g}; look for "
            "what is detached, rounded or replaced on the way to the code",
            value=latent,
            limit=WRONG,
        )
    pixels = 0.0 if seen.along_pixels is None else _share(~(seen.along_pixels >= ALONG)[eligible])
    if pixels > WRONG:
        yield Flag(
            name="pixels without a true gradient",
            evidence=f"for {pixels:.0%} of the eligible sources a quarter of the pixels, by the "
            "size of their gradient, does a tenth or more of what all do, and its gradient has a "
            f"cosine below {ALONG:g} with finite differences; let gradients pass to all",
            value=pixels,
            limit=WRONG,
        )
    jumpy = _share(seen.jump[eligible] > JUMP)
    if jumpy > JUMPY:
        yield Flag(
            name="reconstructions jump",
            evidence=f"for {jumpy:.0%} of the eligible sources more than half of what a tenth of "
            "the pixel range changes in the reconstruction changes at one point, where gradients "
            "see nothing; attack the model without its detector, purifier or rounding as well",
            value=jumpy,
            limit=JUMPY,
        )
    stiff = _share(seen.response[eligible] < RESPONSE)
    if stiff > STIFF:
        yield Flag(
            name="reconstructions do not follow the image",
            evidence=f"for {stiff:.0%} of the eligible sources noise of a tenth of the pixel range "
            f"moves the reconstruction by less than {RESPONSE:g} of it; attack the model without "
            "what puts other images in the place of the given ones",
            value=stiff,
            limit=STIFF,
        )
    if seen.unreached is not None:
        yield from _unreached(seen.unreached, eligible)
    sure = _share(seen.lead[eligible] > LEAD)
    if sure > TOO_SURE:
        yield Flag(
            name="categories are too sure",
            evidence=f"for {sure:.0%} of the eligible sources a category leads by more than "
            f"{LEAD:g} logits, so that the others have no gradient in float32; give logits in "
            "place of probabilities, or divide them by a temperature",
            value=sure,
            limit=TOO_SURE,
        )


def _unreached(hidden: Tensor, eligible: Tensor) -> Iterator[Flag]:
    """A label by argmax has no gradient, nor do short differences of it tell of one."""
    share = _share(hidden[eligible] > HIDDEN)
    if share > UNREACHED:
        yield Flag(
            name="codes that no gradient reaches",
            evidence=f"for {share:.0%} of the eligible sources more than {HIDDEN:g} of what the "
            "decoder does hangs on numbers of the code that no gradient moves; give a label as "
            "genrobust.Categorical(logits), and let gradients pass to what is rounded",
            value=share,
            limit=UNREACHED,
        )


def _attacked(along: Tensor, eligible: Tensor) -> Flag | None:
    """A gradient may be true at the sources and at first alone."""
    share = _share(~(along[eligible] >= ALONG))
    if share <= WRONG:
        return None
    return Flag(
        name="gradients are wrong where attacks lead",
        evidence=f"for {share:.0%} of the eligible sources, after the attacks, the gradient at an "
        f"attacked image has a cosine below {ALONG:g} with finite differences; let gradients pass "
        "wherever the image lies, however often and however many are asked for",
        value=share,
        limit=WRONG,
    )


def _held(response: Tensor, eligible: Tensor) -> Flag | None:
    """Where attacks lead a reconstruction moves about as far as anywhere, unless it is held."""
    share = _share(~(response[eligible] >= HELD))
    if share <= HOLDS:
        return None
    return Flag(
        name="reconstructions are held where attacks lead",
        evidence=f"for {share:.0%} of the eligible sources noise moves the reconstruction of an "
        f"attacked image by less than {HELD:g} of what it moves its source's; attack the model "
        "without what lets go of the given image there",
        value=share,
        limit=HOLDS,
    )


def _rippled(gain: Tensor, eligible: Tensor) -> Flag | None:
    """A mean of gradients leads where a true one does, unless the model is rippled."""
    share = _share(~(gain[eligible] <= GAIN))
    if share <= RIPPLED:
        return None
    return Flag(
        name="a smoothed gradient leads further",
        evidence=f"for {share:.0%} of the eligible sources a step down the mean of gradients "
        "beside the source lowers the judge's margin much further than one down its own, by more "
        f"than {GAIN:g} of the way; attack the model without its ripple, or with smoothed "
        "gradients",
        value=share,
        limit=RIPPLED,
    )


def _unbounded(fooled: Tensor, eligible: Tensor) -> Flag | None:
    """Inside the whole box there is an image of another class for every model."""
    share = _share(~fooled[eligible])
    if share <= UNBOUNDED:
        return None
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
    if damaged.attacked_shift is None or suite.eps[-1] < 2 * suite.eps[0]:
        return None
    if not unbroken.any() or _share(unbroken[eligible]) <= UNBROKEN:
        return None
    first, last = damaged.attacked_shift[0, unbroken], damaged.attacked_shift[-1, unbroken]
    share = _share(~(last >= GROWTH * first))
    if share <= STILL:
        return None
    return Flag(
        name="damage does not grow with the radius",
        evidence=f"for {share:.0%} of the sources that stand at eps {suite.eps[-1]:g} attacks move "
        f"the reconstruction no farther there than at eps {suite.eps[0]:g}; attack the model "
        "without what holds its reconstructions",
        value=share,
        limit=STILL,
    )


def _surrogate(suite: Suite, guidance: Guidance, short: Short, eligible: Tensor) -> Flag | None:
    """Attacks are led by the surrogate: what they change there they must change for real."""
    share = _share((guidance.surrogate_label != guidance.deployed_label)[eligible])
    evidence = (
        f"on {share:.0%} of the eligible sources the attacker's judge sees different classes in "
        "the two reconstructions"
    )
    if share <= DISAGREE and short.stopped is not None:  # as it is in older runs
        shares = [_share(mask[eligible]) for mask in short.stopped]
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


def _larger_eps(suite: Suite, short: Short, eligible: Tensor) -> Flag | None:
    shares = [_share(success[eligible]) for success in short.success]
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


def _restarts(suite: Suite, short: Short, eligible: Tensor) -> Flag | None:
    shares = [_share(mask[eligible]) for mask in short.success != short.again]
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
