"""Try a judge before it judges anything: each failure is one clear sentence."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.foreign import explain, is_fault
from genrobust.judges.judge import Judge
from genrobust.models.inputs import probe_images
from genrobust.seeding import generators_kept

#: By how much logits may differ where they should not, as a share of the largest.
TOLERANCE = 1e-3

#: Shares of recognised images: below the one a judge is of little use; and it was made for other
#: pixels if it recognises so much more, and so many more, of those.
LITTLE, MORE, MORE_IMAGES = 0.5, 0.1, 3

#: What classifiers are made for besides [0, 1]: the range, and how to get there.
OTHER_PIXELS = {"[0, 255]": (255.0, 0.0), "[-1, 1]": (2.0, -1.0)}


def check_judge(judge: Judge, shape: tuple[int, int, int], classes: int) -> None:
    """Check shape, finiteness, repetition and independence of the batch on a few images.

    Args:
        judge: in eval mode, on the CPU.
        shape: (C, H, W) of the images.
        classes: how many the data set has.

    Raises:
        GenrobustError: the first check that failed, what was found, and what to do.
    """
    x = probe_images(shape)
    given = x.clone()
    with generators_kept(x.device), torch.no_grad():
        scores = _scores(judge, given, classes)
        if not torch.equal(given, x):
            raise GenrobustError(
                f"the judge '{judge.name}' changes the images that it is given; let its forward "
                "work on a copy, such as x = x - mean in place of x.sub_(mean)"
            )
        again = _scores(judge, x.clone(), classes)
        alone = torch.cat([_scores(judge, image[None].clone(), classes) for image in x])
    room = TOLERANCE * float(scores.abs().max())
    if float((again - scores).abs().max()) > room:
        raise GenrobustError(
            f"the judge '{judge.name}' scores the same images differently when it is asked again; "
            "let it draw nothing and keep nothing in eval mode"
        )
    if float((alone - scores).abs().max()) > room:
        raise GenrobustError(
            f"the judge '{judge.name}' scores an image differently beside others than alone; let "
            "it treat images one by one: no softmax or normalisation over the batch"
        )


def check_gradient(judge: Judge, x: Tensor) -> None:
    """Check that attacks can follow a judge.

    Args:
        judge: the attacker's.
        x: images (B, C, H, W) in [0, 1], where the judge is.

    Raises:
        GenrobustError: its logits have no gradient.
    """
    with torch.enable_grad():
        images = x.clone().requires_grad_()
        logits = judge.logits(images)
        slopes = [logits.detach()]
        if logits.requires_grad:
            slopes = list(torch.autograd.grad(logits.square().sum(), images, allow_unused=True))
    if not logits.requires_grad or slopes[0] is None or not slopes[0].isfinite().all():
        raise GenrobustError(
            f"the judge '{judge.name}' has no gradient, or none that is finite, for attacks to "
            "follow; take torch.no_grad, .detach and numpy out of its forward, or put another "
            "--judge before it, for the attacks"
        )


def check_recognises(judge: Judge, x: Tensor, labels: Tensor) -> None:
    """Check that a judge recognises images of known classes; warn if it does so badly.

    Args:
        judge: the judge.
        x: images (B, C, H, W) in [0, 1], where it is.
        labels: their classes, (B,) int64.

    Raises:
        GenrobustError: it recognises more of them as pixels of another range.
    """
    right = _recognised(judge, x, labels)
    more, pixels = max(
        (_recognised(judge, factor * x + shift, labels), name)
        for name, (factor, shift) in OTHER_PIXELS.items()
    )
    if more - right >= max(MORE_IMAGES, MORE * len(x)):
        raise GenrobustError(
            f"the judge '{judge.name}' recognises {right / len(x):.0%} of the sources as pixels in "
            f"[0, 1] and {more / len(x):.0%} of them as pixels in {pixels}; let its forward "
            "convert what it is given, which is in [0, 1]"
        )
    if right < LITTLE * len(x):
        warnings.warn(
            f"the judge '{judge.name}' recognises {right / len(x):.0%} of the sources "
            "themselves; where the rule has it look at them, those that it does not are not "
            "eligible, and count as not robust",
            GenrobustWarning,
            stacklevel=3,
        )


@torch.no_grad()
def _recognised(judge: Judge, x: Tensor, labels: Tensor) -> int:
    return int((judge.labels(x) == labels).sum())


def _scores(judge: Judge, x: Tensor, classes: int) -> Tensor:
    who, shape = f"the judge '{judge.name}'", tuple(x.shape)
    try:
        scores = judge.logits(x)
    except BaseException as problem:
        if not is_fault(problem):
            raise
        raise GenrobustError(
            f"{who} failed on images of shape {shape} ({explain(problem)}); let its forward take "
            "a batch of them with pixels in [0, 1], and resize or convert colours by itself"
        ) from problem
    if not isinstance(scores, Tensor):
        raise GenrobustError(
            f"{who} gives a {type(scores).__name__}; let its forward return logits alone, a tensor "
            "(B, classes)"
        )
    if scores.shape == (len(x), 1) or scores.shape == (len(x),):
        raise GenrobustError(
            f"{who} gives one number an image; let it give one for each class, of two such as "
            "torch.stack([-s, s], 1)"
        )
    if scores.shape != (len(x), classes):
        raise GenrobustError(
            f"{who} gives scores of shape {tuple(scores.shape)} for images of shape {shape} and "
            f"{classes} classes; it must give {(len(x), classes)}"
            + _or_other_classes(scores, classes)
        )
    if not scores.is_floating_point():
        raise GenrobustError(f"{who} gives {scores.dtype}; let it give logits, as floats")
    if not scores.isfinite().all():
        raise GenrobustError(
            f"{who} gives NaN or infinite scores; let it give finite logits, not logarithms of "
            "probabilities that may be 0"
        )
    return scores


def _or_other_classes(scores: Tensor, classes: int) -> str:
    """What else may be wrong: how many classes data have is one more than their largest label."""
    if scores.ndim != 2:
        return ""
    if scores.shape[1] < classes:
        return (
            ", or, if labels of your own count from 1 or leave numbers out, number the classes "
            f"from 0 to {scores.shape[1] - 1}"
        )
    return (
        ", or, if pictures of your own lack some of its classes, make an empty sub-folder for "
        f"each, or, of arrays, put ?classes={scores.shape[1]} behind the name of the data; objects "
        "in Python (data=) say it by .classes"
    )
