"""What is odd about single sources: a flag's sign, which of them bear it, and how many may."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.outcomes.outcome import Directional, Guidance, Signs

#: Shares of the sources above which a flag is raised.
VANISHED = 0.1
#: Cosine of two gradients a thousandth of the pixel range apart, and the share below it.
ALIKE, RANDOM = 0.5, 0.25
#: Part of the fall that a gradient promises, and the share that falls less.
KEPT, MISLED = 0.1, 0.25
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
#: What signs of a margin go by, of runs without an attacker's judge and with one.
MARGINS = ("the likeness to the source", "the judge's margin")
#: How far a reconstruction may follow noise, as a part of it, for the likeness to its source to say
#: what a whole step along a gradient should do. It does not of shapes in black and white, which
#: noise moves by 1.3 times itself and more.
CALM = 1.0
#: Logits by which a category leads beyond which others have next to no gradient, and the share of
#: the sources; in float32 probabilities end at 87. Of honest models it is 50 at most.
LEAD, TOO_SURE = 60.0, 0.25
#: The share of the sources of which the attacker's judge sees another class in the reconstruction
#: without an attack. Of all entries of the leaderboard it is 0.01 at most; of a judge whose classes
#: are in another order 1.
MISJUDGED = 0.25
#: The part of what the decoder does that hangs on code which no gradient reaches, and the share of
#: the sources where it is more.
HIDDEN, UNREACHED = 0.3, 0.25


@dataclass(frozen=True, eq=False)
class Mark:
    """A sign that single sources bear.

    Args:
        name: of the flag.
        borne: by which sources, (B,) bool.
        limit: the share of the sources that may bear it.
        what: is so of them, in words.
        asked: of which sources it can be told, (B,) bool; None of all.
    """

    name: str
    borne: Tensor
    limit: float
    what: str
    asked: Tensor | None = None


def misjudged(guidance: Guidance, label: Tensor) -> Mark:
    """An attack ends where the attacker's judge is fooled: where it errs from the start, there."""
    return Mark(
        name="the attacker's judge errs without an attack",
        borne=guidance.deployed_label != label,
        limit=MISJUDGED,
        what="the attacker's judge sees another class in the reconstruction before any attack, so "
        "that attacks stop where they start; give one that knows the classes in the order of the "
        "labels, and that sees in reconstructions what the scoring judges see",
    )


def marks(signs: Signs, judged: bool = True) -> Iterator[Mark]:
    """The signs, by the attacker's judge or, where none judged, by the likeness to the source."""
    guidance, margin = signs.guidance, MARGINS[judged]
    calm = unsure = torch.ones_like(guidance.gradient_norm, dtype=torch.bool)
    if not judged:
        calm = guidance.directional.response <= CALM
        unsure = _is_wrong(guidance.directional)
    yield from _of_gradients(guidance, margin, calm, unsure)
    yield Mark(
        name="a smoothed gradient leads further",
        borne=~(guidance.smoothed_gain <= GAIN),
        limit=RIPPLED,
        what=f"a step down the mean of gradients beside the source lowers {margin} "
        f"much further than one down its own, by more than {GAIN:g} of the way; attack the "
        "model without its ripple, or with smoothed gradients",
        asked=calm,
    )
    yield from _of_directions(guidance.directional, margin)
    yield from _where_attacks_lead(signs, margin)


def _of_gradients(guidance: Guidance, margin: str, calm: Tensor, unsure: Tensor) -> Iterator[Mark]:
    """Signs of gradients alone.

    Args:
        calm: sources of which a whole step along the gradient says something.
        unsure: sources whose gradient may be random, as differences do not bear it out.
    """
    norm = guidance.gradient_norm
    yield Mark(
        name="gradients vanish",
        borne=(norm == 0) | ~norm.isfinite(),
        limit=VANISHED,
        what=f"{margin} on the surrogate reconstruction has a zero or infinite gradient",
    )
    # A gradient that is another one right beside says nothing of where the loss falls.
    yield Mark(
        name="gradients are random",
        borne=(guidance.gradient_cosine < ALIKE) & unsure,
        limit=RANDOM,
        what=f"the gradient of {margin} turns by more than 60 degrees within a thousandth "
        "of the pixel range",
        asked=norm > 0,
    )
    # It may be smooth and yet that of something else.
    yield Mark(
        name="gradients mislead",
        borne=~(guidance.descent_relaxed >= KEPT * guidance.descent_promised),
        limit=MISLED,
        what=f"a step of a hundredth of the pixel range down the gradient lowers {margin} "
        "by less than a tenth of what the gradient promises",
        asked=(norm > 0) & calm,
    )


def _of_directions(seen: Directional, margin: str) -> Iterator[Mark]:
    """What needs no attack: differences beside gradients, and reconstructions on short ways."""
    yield Mark(
        name="gradients are wrong in part",
        borne=_is_wrong(seen),
        limit=WRONG,
        what=f"the gradient of {margin} has a cosine below {ALONG:g} with finite "
        "differences; let gradients pass, or give the path that they take as encode= and decode= "
        "beside deploy=",
    )
    yield Mark(
        name="latents without a true gradient",
        borne=~(seen.along_latent_either >= ALONG),
        limit=WRONG,
        what="a latent that moves with the image has a gradient whose cosine with finite "
        f"differences is below {ALONG:g}; look for what is detached, rounded or replaced on the "
        "way to the code",
    )
    yield Mark(
        name="pixels without a true gradient",
        borne=~(seen.along_pixels >= ALONG),
        limit=WRONG,
        what="a quarter of the pixels, by the size of their gradient, does a tenth or more of "
        f"what all do, and its gradient has a cosine below {ALONG:g} with finite differences; "
        "let gradients pass to all",
    )
    yield Mark(
        name="reconstructions jump",
        borne=seen.jump > JUMP,
        limit=JUMPY,
        what="more than half of what a tenth of the pixel range changes in the reconstruction "
        "changes at one point, where gradients see nothing; attack the model without its "
        "detector, purifier or rounding as well",
    )
    yield Mark(
        name="reconstructions do not follow the image",
        borne=seen.response < RESPONSE,
        limit=STIFF,
        what="noise of a tenth of the pixel range moves the reconstruction by less than "
        f"{RESPONSE:g} of it; attack the model without what puts other images in the place of the "
        "given ones",
    )
    # A label by argmax has no gradient, nor do short differences of it tell of one.
    yield Mark(
        name="codes that no gradient reaches",
        borne=seen.unreached > HIDDEN,
        limit=UNREACHED,
        what=f"more than {HIDDEN:g} of what the decoder does hangs on numbers of the code that "
        "no gradient moves; give a label as genrobust.Categorical(logits) of what decides it, and "
        "let gradients pass to what is rounded",
    )
    yield Mark(
        name="categories are too sure",
        borne=seen.lead > LEAD,
        limit=TOO_SURE,
        what=f"a category leads by more than {LEAD:g} logits, so that the others have no gradient "
        "in float32; give logits in place of probabilities, or divide them by a temperature",
    )


def _is_wrong(seen: Directional) -> Tensor:
    """Where differences do not bear the gradient out, (B,) bool."""
    return ~(seen.along_either >= ALONG)


def _where_attacks_lead(signs: Signs, margin: str) -> Iterator[Mark]:
    # A gradient may be true at the sources and at first alone.
    yield Mark(
        name="gradients are wrong where attacks lead",
        borne=~(signs.along_attacked >= ALONG),
        limit=WRONG,
        what="the gradient at an attacked image, after the attacks, has a cosine below "
        f"{ALONG:g} with finite differences; let gradients pass wherever the image lies, "
        "however often and however many are asked for",
    )
    # There a reconstruction moves about as far as anywhere, unless it is held.
    yield Mark(
        name="reconstructions are held where attacks lead",
        borne=~(signs.response_attacked >= HELD),
        limit=HOLDS,
        what="noise moves the reconstruction of an attacked image by less than "
        f"{HELD:g} of what it moves its source's; attack the model without what lets go of the "
        "given image there",
    )
    # It may be true at both ends of the way there and not between them.
    yield Mark(
        name="gradients are wrong on the way of attacks",
        borne=~(signs.followed >= ALONG),
        limit=WRONG,
        what=f"on the way from the source to an attacked image {margin} does not "
        f"follow its gradients, with a cosine below {ALONG:g}; let gradients pass wherever the "
        "image lies, however often and however many are asked for",
    )
