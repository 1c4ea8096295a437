"""The reconstruction feedback loop of Kos, Fischer & Song 2018: feed reconstructions back."""

from __future__ import annotations

import torch
from torch import Tensor

from genrobust.models.model import GenerativeModel


@torch.no_grad()
def feedback_loop(model: GenerativeModel, x_adv: Tensor, loops: int = 2) -> Tensor:
    """Reconstruct, reconstruct the reconstruction, and so on.

    The paper classifies each entry by its latent mean: entry 0 is the adversarial example, entry
    1 its reconstruction, from which its success rates are taken, entry 2 that one's. Uses the
    deployed path; reconstructions are cut to [0, 1] before they are fed back.

    Args:
        model: the victim.
        x_adv: adversarial images, (B, C, H, W).
        loops: how often to reconstruct.

    Returns:
        (loops + 1, B, C, H, W).
    """
    images = [x_adv]
    for _ in range(loops):
        images.append(model.reconstruct(images[-1]).clamp(0, 1))
    return torch.stack(images)
