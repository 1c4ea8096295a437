"""An entry's pictures: what became of a few sources, and what single latents do.

They are drawn from a replay, and those of an entry are compared with what a replay draws: a picture
may not show another model than the one that was scored.
"""

from __future__ import annotations

import re
import struct
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from genrobust.evidence.checks import RejectionError
from genrobust.evidence.entries import PICTURES, TRAVERSALS, LoadedEntry, PngImage
from genrobust.evidence.entry import Outcomes
from genrobust.evidence.shown import example_positions, example_radius
from genrobust.models.model import GenerativeModel
from genrobust.outcomes.outcome import Outcome
from genrobust.posterior import Posterior
from genrobust.report.pictures import png

#: Latents that are shown, and the values a Gaussian one takes: in standard deviations of the prior.
LATENTS = 5
REACH, VALUES = 3.0, 10
#: Levels of 255 by which a pixel may differ from the one that a replay draws, and on another
#: machine the share of pixels that may differ by more: those of a source that falls otherwise.
LEVELS, PIXELS_DIFFERING = 2, 0.1


def thumbnails(outcome: Outcome, outcomes: Outcomes) -> bytes | None:
    """A PNG of four rows of tiles, with a column for the first eligible source of each class.

    From the top: the source; the adversarial input of the smallest radius, where it is within the
    middle one of the grid, else the source; the reconstructions of both.

    Args:
        outcome: what a replay gives.
        outcomes: of the same sources.

    Returns:
        The file's bytes; None without an eligible source.
    """
    chosen = torch.tensor(example_positions(outcomes), dtype=torch.long)
    if not len(chosen):
        return None
    clean, effect = outcome.clean, outcome.untargeted.effect
    assert clean is not None
    assert effect is not None
    fell = (outcome.untargeted.radius[chosen] <= example_radius(outcomes.eps)).view(-1, 1, 1, 1)
    before = clean.source[chosen], clean.reconstruction[chosen]
    attacked = torch.where(fell, effect.x_adv[chosen], before[0])
    after = torch.where(fell, effect.reconstruction[chosen], before[1])
    return png(grid(torch.stack([before[0], attacked, before[1], after])))


@torch.no_grad()
def traversals(model: GenerativeModel, x: Tensor) -> bytes | None:
    """A PNG with a row for each of the latents that say most, moved while the others stay.

    A Gaussian latent goes from -3 to 3, a categorical one through its first categories.

    Args:
        model: what to decode with.
        x: images (B, C, H, W): the first is varied, all of them say which latents say most.

    Returns:
        The file's bytes; None for a model without such latents.
    """
    posterior = model.encode(x)
    weight = posterior.kl_to_prior().mean(0)
    chosen = weight.argsort(descending=True, stable=True)[:LATENTS].sort().values.tolist()
    first = posterior[torch.arange(1)]
    rows = []
    for latent in chosen:
        codes = _moved(first, latent)
        if codes is None:
            return None
        rows.append(model.decode(codes).clamp(0, 1))
    return png(grid(torch.stack(rows))) if rows else None


def check_pictures(
    entry: LoadedEntry, model: GenerativeModel, outcome: Outcome, elsewhere: str | None
) -> str:
    """Whether the pictures of an entry are those that its evidence and model give.

    Args:
        entry: whose pictures, as far as there are any.
        model: what was scored.
        outcome: what a replay gives.
        elsewhere: how this machine differs from that of the run; None if it does not.

    Raises:
        RejectionError: they show something else, or hold more than pixels.
    """
    assert outcome.clean is not None
    given = {PICTURES: entry.pictures, TRAVERSALS: entry.traversals}
    shown = {name: picture for name, picture in given.items() if picture is not None}
    for name, picture in shown.items():
        ours = (
            thumbnails(outcome, entry.outcomes)
            if name == PICTURES
            else traversals(model, outcome.clean.source)
        )
        if ours is None:
            raise RejectionError(f"{name} shows what the model does not have")
        theirs, drawn = _pixels(name, picture), _decoded(ours)
        if theirs.shape != drawn.shape:
            raise RejectionError(f"{name} is not of the size of what the model draws")
        apart = np.abs(theirs.astype(np.int16) - drawn.astype(np.int16)) > LEVELS
        if apart.mean() > (0 if elsewhere is None else PIXELS_DIFFERING):
            raise RejectionError(
                f"{name} is not what the model and its evidence draw, in {apart.mean():.0%} of its "
                "pixels"
            )
    return f"{' and '.join(shown) or 'none'}, as the model and the evidence draw them"


def _pixels(name: str, picture: PngImage) -> NDArray[np.uint8]:
    """A file that holds pixels alone: no text, animation, profile or anything behind its end."""
    content, kinds, at = picture.content, b"", 8
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        kinds += content[at + 4 : at + 8]
        at += length + 12
    if re.fullmatch(b"IHDR(IDAT)+IEND", kinds) is None or at != len(content):
        raise RejectionError(f"{name} holds more than the pixels of one picture")
    try:
        with Image.open(BytesIO(content), formats=["PNG"]) as image:
            mode = image.mode
        pixels = _decoded(content)
    except (OSError, ValueError, SyntaxError, struct.error) as problem:
        raise RejectionError(f"{name} cannot be decoded ({problem})") from problem
    if mode not in ("L", "RGB"):  # a browser shows of transparent pixels what lies behind them
        raise RejectionError(f"{name} has pixels of the kind {mode}; they are opaque, of 8 bits")
    return pixels


def _decoded(content: bytes) -> NDArray[np.uint8]:
    with Image.open(BytesIO(content), formats=["PNG"]) as image:
        return np.asarray(image.convert("RGB"))


def _moved(posterior: Posterior, latent: int) -> Tensor | None:
    """Codes of one image, alike but for one latent, (VALUES, ...)."""
    codes = []
    for part in posterior.parts:
        columns = part.kl_to_prior().shape[1]
        if 0 <= latent < columns:
            code = part.traversal(latent, VALUES, REACH)
            if code is None:  # no prior says how far to go
                return None
        else:
            code = part.mode().repeat_interleave(VALUES, 0)
        latent -= columns
        codes.append(code)
    return posterior.join(codes)


def grid(tiles: Tensor) -> Tensor:
    """Rows of tiles (R, N, C, H, W) as one image (C, R * H, N * W)."""
    rows, count, channels, height, width = tiles.shape
    return tiles.permute(2, 0, 3, 1, 4).reshape(channels, rows * height, count * width)
