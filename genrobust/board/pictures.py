"""An entry's pictures: what became of a few sources, and what single latents do."""

from __future__ import annotations

import torch
from torch import Tensor

from genrobust.evidence.entry import Outcomes
from genrobust.evidence.outcomes import example_positions, example_radius
from genrobust.models.model import GenerativeModel
from genrobust.outcomes.outcome import Outcome
from genrobust.posterior import Posterior
from genrobust.report.pictures import png

#: Latents that are shown, and the values a Gaussian one takes: in standard deviations of the prior.
LATENTS = 5
REACH, VALUES = 3.0, 10


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
    clean, effect = outcome.clean, outcome.ignore.effect
    assert clean is not None
    assert effect is not None
    fell = (outcome.ignore.radius[chosen] <= example_radius(outcomes.eps)).view(-1, 1, 1, 1)
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
