"""CIVET: a VAE trained on a bound of its worst error (Xu et al. 2025)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from genrobust.models.intervals import code_box, support, through
from genrobust.models.networks import NetworkSpec
from genrobust.training.losses.base import Count, OfGaussians, Positive, Share, Step


class Certified(OfGaussians):
    """The ELBO, with a share of the reconstruction term at the worst that a ball can do to it.

    For all images within ``eps`` the encoder's means and deviations lie in a box; a box of codes,
    the *support set*, holds a draw of any such posterior with probability ``confidence``; and the
    decoder maps that to a box of images, of which each pixel's worst end counts. Boxes go through
    the layers as such (Gowal et al. 2018). ``eps`` grows over ``ramp_steps``, since at first the
    boxes are too wide to learn from.
    """

    kind: Literal["certified"] = "certified"
    weight: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.5
    eps: Positive = 0.05
    confidence: Annotated[Share, Field(gt=0)] = 0.95
    ramp_steps: Count

    def loss(self, at: Step) -> Tensor:
        eps = self.eps * min(1.0, at.number / self.ramp_steps)
        codes = support(*code_box(at.network, at.x, eps), self.confidence)
        ends = [
            F.binary_cross_entropy(image, at.x, reduction="none")
            for image in through(at.network.decoder, codes)
        ]
        worst = torch.maximum(*ends).sum() / len(at.x)
        both = (1 - self.weight) * at.bce + self.weight * worst
        return both + self(at.posterior, at.number)

    def unfit(self, spec: NetworkSpec) -> str | None:
        if spec.lipschitz:
            return "the penalty 'certified' bounds plain layers; set network.lipschitz=null"
        return super().unfit(spec)
