"""Whether a model treats the suite's images as any other of their kind.

The sources of a frozen suite are public. A model that knows them, as an attention over stored
images does, gives them back whatever was done to them, and looks robust; but another image of the
data set, or the same one moved a little, is not what it knows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genrobust.data.base import Images
from genrobust.evidence.checks import RejectionError
from genrobust.models.model import GenerativeModel
from genrobust.seeding import generator, per_sample
from genrobust.suites.suite import Suite

#: How many times larger the error on other images may be. ``genrobust verify`` prints it: of the
#: entries of the leaderboard it is about 1; of one that knows the sources, a hundred and more.
FACTOR = 5.0
#: Other images that are drawn; fewer where the data set has no more.
OTHERS = 200
#: How far a source is moved, per pixel: by less than a judge, or an eye, would notice.
SHIFT = 0.01


def reconstruction_ratios(
    model: GenerativeModel, images: Images, suite: Suite, seed: int
) -> tuple[float, float]:
    """The squared error on other images, and on moved sources, in units of that on the sources.

    Args:
        model: the model; of a random deployment one draw.
        images: the suite's split of its data set.
        suite: whose sources these are.
        seed: of the draw of other images and of the moves, which nobody should know beforehand.

    Returns:
        Both ratios; 1 is a model that makes no difference. Without other images the first is 1.
    """
    sources = images.take(suite.sample_ids)
    rest = sorted({*range(len(images))} - {*suite.sample_ids, *suite.target_ids})
    order = torch.randperm(len(rest), generator=generator("others", seed))[:OTHERS].tolist()

    def draw(source: torch.Generator) -> Tensor:
        return SHIFT * (2 * torch.rand(sources.shape[1:], generator=source) - 1)

    moved = (sources + per_sample(draw, suite.sample_ids, "moved", seed)).clamp(0, 1)
    usual = _error(model, sources, suite.chunk_size)
    others = _error(model, images.take([rest[i] for i in order]), suite.chunk_size)
    return (others / usual if rest else 1.0), _error(model, moved, suite.chunk_size) / usual


def require_general(model: GenerativeModel, images: Images, suite: Suite, seed: int) -> str:
    """What the two ratios are.

    Raises:
        RejectionError: the model reconstructs the suite's sources far better than other images.
    """
    others, moved = reconstruction_ratios(model, images, suite, seed)
    if max(others, moved) > FACTOR:
        which = "other images of the data set" if others >= moved else "the sources moved a little"
        raise RejectionError(
            f"the model's error on {which} is {max(others, moved):.0f} times that on the suite's "
            "sources: it knows these, and scores on them say nothing of it"
        )
    return (
        f"its error is {others:.2f} of that on the suite's sources on other images, {moved:.2f} on "
        f"the sources moved a little (seed {seed})"
    )


@torch.no_grad()
def _error(model: GenerativeModel, x: Tensor, chunk: int) -> float:
    """The squared error of an image, in the mean; never 0, so that a ratio is a number."""
    found = [(model.reconstruct(part) - part).square().flatten(1).sum(1) for part in x.split(chunk)]
    return max(float(torch.cat(found).double().mean()), 1e-9) if found else 1e-9
