"""What numbers that are read as a spread show against it, where no ``forward`` tells."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from genrobust.models.checks.finding import Finding
from genrobust.models.checks.spreads import Reading
from genrobust.models.reading.kinds import LOG_STD, LOGVAR, STD
from genrobust.posterior import Gaussian

#: The least numbers in a code that are not all positive by chance, of a model of which nobody knows
#: whether it is trained.
MANY = 20
#: The least of a code's numbers that must move, and are not all one function of others by chance.
FEW = 4
#: The least of them that do not move as others by chance, and the cosine above which they do.
SEVERAL, ALIKE = 8, 0.9


def unlikely(
    gaussian: Gaussian, reading: Reading, tolerance: float, learned: bool = False
) -> Finding | None:
    """Whether what was read as a spread hardly is one.

    Args:
        gaussian: of several images.
        reading: what its log-variance was read from.
        tolerance: within which numbers of the model count as equal.
        learned: the pictures of its codes are like the images, so that no log-variance is positive
            for all of them by chance.
    """
    return _positive(gaussian, reading, 1 if learned else MANY) or _origin(
        gaussian, reading, tolerance
    )


def _positive(gaussian: Gaussian, reading: Reading, least: int) -> Finding | None:
    """A trained log-variance is below 0 where a code says something."""
    if gaussian.logvar[0].numel() < least or not (gaussian.logvar > 0).all():
        return None
    what = f"what is read as {reading.kind.name} is "
    if reading.kind in (LOGVAR, LOG_STD):
        what += "positive for all images and latents, as standard deviations and variances are"
        return Finding(what, reading.typed(STD))
    what += "above 1 for all images and latents, and less where a code says something"
    return Finding(what, "pass encode=, a function that returns (mean, logvar)")


def _origin(gaussian: Gaussian, reading: Reading, tolerance: float) -> Finding | None:
    """Whether the second of the two is what the first is made from, and says no spread.

    Sparse and binary autoencoders give their code beside its pre-activations or logits, of which
    it is a function that rises, or beside its mask; quantisers, and encoders that refine a code,
    give it beside an earlier one. A log-variance does not know in which direction the mean lies.
    """
    code, other = (t.flatten(1).double() for t in (gaussian.mean, reading.numbers))
    if ((other == 0) | (other == 1)).all() and other.amin() < other.amax():
        how = "takes 0 and 1 alone"
    elif _rises(code, other, tolerance):
        how = "rises with what is read as the mean, number by number"
    elif _moves_alike(code, other):
        how = "moves as what is read as the mean does"
    else:
        return None
    return Finding(
        f"what is read as {reading.kind.name} {how}, as what a code is made from does, such as "
        "logits, pre-activations, a mask or a code before it was rounded or refined",
        reading.alone(),
    )


def _rises(code: Tensor, other: Tensor, tolerance: float) -> bool:
    """Whether the numbers of a code (B, L) are one function of the other's, which rises."""
    least = tolerance * code.abs().amax().clamp_min(1)
    moves = (code.amax(0) - code.amin(0) > least) & (other.amax(0) > other.amin(0))
    if moves.sum() < FEW:
        return False
    flat, order = code.flatten().sort()  # of equal others, the least first
    in_order = flat[other.flatten()[order].sort(stable=True).indices]
    return bool((in_order >= in_order.cummax(0).values - least).all())


def _moves_alike(code: Tensor, other: Tensor) -> bool:
    """Whether two codes (B, L) move from image to image in nearly the same direction."""
    if code.shape[1] < SEVERAL:
        return False
    one, two = ((t - t.mean(0)).flatten() for t in (code, other))
    return bool(F.cosine_similarity(one, two, 0) > ALIKE)
