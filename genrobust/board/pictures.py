"""An entry's pictures: what became of a few sources, and what single latents do."""

from __future__ import annotations

import torch
from torch import Tensor

from genrobust.evidence.entry import Outcomes
from genrobust.evidence.outcomes import example_positions, example_radius
from genrobust.models.model import GenerativeModel
from genrobust.outcomes.outcome import Outcome
from genrobust.posterior import Categorical, Gaussian, Posterior
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
    return png(_grid(torch.stack([before[0], attacked, before[1], after])))


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
    if not all(isinstance(part, (Gaussian, Categorical)) for part in posterior.parts):
        return None  # a point has no prior that says how far to go
    weight = posterior.kl_to_prior().mean(0)
    chosen = weight.argsort(descending=True, stable=True)[:LATENTS].sort().values.tolist()
    first = posterior[torch.arange(1)]
    rows = [model.decode(_moved(first, latent)).clamp(0, 1) for latent in chosen]
    return png(_grid(torch.stack(rows)))


def _moved(posterior: Posterior, latent: int) -> Tensor:
    """Codes of one image, alike but for one latent, (VALUES, ...)."""
    codes = []
    for part in posterior.parts:
        mode = part.mode()
        code = mode.flatten(1).repeat(VALUES, 1)
        columns = 1 if isinstance(part, Categorical) else code.shape[1]
        if 0 <= latent < columns:
            if isinstance(part, Categorical):
                categories = torch.arange(VALUES) % code.shape[1]
                code = torch.eye(code.shape[1], device=code.device)[categories].to(code)
            else:
                code[:, latent] = torch.linspace(-REACH, REACH, VALUES).to(code)
        latent -= columns
        codes.append(code.view(VALUES, *mode.shape[1:]))
    return posterior.join(codes)


def _grid(tiles: Tensor) -> Tensor:
    """Rows of tiles (R, N, C, H, W) as one image (C, R * H, N * W)."""
    rows, count, channels, height, width = tiles.shape
    return tiles.permute(2, 0, 3, 1, 4).reshape(channels, rows * height, count * width)
