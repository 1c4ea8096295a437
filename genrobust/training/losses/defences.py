"""Defences that are learned: adversarial training of latent or output, AVAE, mixup."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from genrobust.posterior import Posterior
from genrobust.training.losses.base import (
    Count,
    OfGaussians,
    Positive,
    Step,
    Weight,
    WeightedKL,
    bce,
    worst_in_ball,
)


class RobustEncoder(WeightedKL):
    """beta * KL + weight * how far the code moves at the worst point of a ball.

    ``distance`` is of the means (FARE, Schlarmann et al. 2024, for CLIP) or the squared
    2-Wasserstein distance of posteriors (the smooth encoder, Cemgil et al. 2020).
    """

    kind: Literal["robust-encoder"] = "robust-encoder"
    distance: Literal["means", "wasserstein2"] = "means"
    weight: Weight = 10.0
    eps: Positive = 0.1
    attack_steps: Count = 5

    def loss(self, at: Step) -> Tensor:
        held = at.posterior.detach()

        def moved(x: Tensor) -> Tensor:
            return self._moved(at.network.encode(x), held)

        worst = worst_in_ball(at.x, moved, self.eps, self.attack_steps, at.draws)
        far = self._moved(at.network.encode(worst), at.posterior).mean()
        return super().loss(at) + self.weight * far

    def _moved(self, posterior: Posterior, clean: Posterior) -> Tensor:
        if self.distance == "means":
            return (posterior.vector() - clean.vector()).square().sum(1)
        return sum(
            p.squared_wasserstein2(c) for p, c in zip(posterior.parts, clean.parts, strict=True)
        )  # type: ignore[return-value]


class RobustOutput(WeightedKL):
    """A beta-VAE's loss at the worst point of a ball against the clean image: adversarial training.

    The attack raises the reconstruction's error through the mode of the code; ``weight`` is the
    share of the attacked reconstruction, the rest is that of the clean one.
    """

    kind: Literal["robust-output"] = "robust-output"
    weight: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.5
    eps: Positive = 0.1
    attack_steps: Count = 5

    def loss(self, at: Step) -> Tensor:
        def error(x: Tensor) -> Tensor:
            made = at.network.decode(at.network.encode(x).relaxed(at.temperature))
            return F.binary_cross_entropy(made, at.x, reduction="none").flatten(1).sum(1)

        worst = worst_in_ball(at.x, error, self.eps, self.attack_steps, at.draws)
        attacked = bce(at.network.decode(at.draw(at.network.encode(worst))), at.x)
        both = (1 - self.weight) * at.bce + self.weight * attacked
        return both + self(at.posterior, at.number)


class SelfConsistent(OfGaussians):
    """AVAE (Cemgil et al. 2020, arXiv 2012.03715): the encoder knows its own code.

    A draw z is decoded, held, and encoded again; the second posterior must be that of a code which
    correlates with z by ``rho``: the term is KL(q(z' | x') || N(rho z, 1 - rho^2)).
    """

    kind: Literal["avae"] = "avae"
    rho: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.975

    def loss(self, at: Step) -> Tensor:
        again = at.network.encode(at.image.detach()).parts[0]
        mean, logvar = again.tensors()
        return super().loss(at) + coupled_kl(mean, logvar, at.code, self.rho)


def coupled_kl(mean: Tensor, logvar: Tensor, code: Tensor, rho: float) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(rho * code, 1 - rho^2)), nats, summed, the mean over images.

    Example:
        >>> code = torch.ones(2, 3)
        >>> bool(coupled_kl(0.6 * code, torch.full((2, 3), 0.64).log(), code, 0.6).abs() < 1e-6)
        True
    """
    left = torch.tensor(1 - rho**2)
    ratio = (logvar.exp() + (mean - rho * code).square()) / left
    return 0.5 * (ratio - 1 + left.log() - logvar).sum(1).mean()


class Mixup(OfGaussians):
    """Mixup of a VAE (Khan & Storkey 2023): mixed images and mixed codes belong together.

    The share of the first image is drawn from Beta(1/2, 1/2), as arcsine: ``sin^2`` of a uniform
    angle. Added are the KL of the mixed image's posterior, the squared error of the mixed code's
    decoding and that of the mixed image's mean, each with ``weight``.
    """

    kind: Literal["mixup"] = "mixup"
    weight: Weight = 1.0

    def loss(self, at: Step) -> Tensor:
        angle = torch.rand(len(at.x), generator=at.draws).to(at.x) * torch.pi / 2
        share = angle.sin().square()
        other = torch.randperm(len(at.x), generator=at.draws)
        x = _mixed(at.x, share, other)
        code = _mixed(at.gaussian.mean, share, other)
        posterior = at.network.encode(x)
        decoded = F.mse_loss(at.network.decode(code), x, reduction="sum") / len(x)
        encoded = F.mse_loss(posterior.vector(), code, reduction="sum") / len(x)
        kl = self(posterior, at.number)
        return super().loss(at) + self.weight * (kl + decoded + encoded)


def _mixed(values: Tensor, share: Tensor, other: Tensor) -> Tensor:
    part = share.view(-1, *[1] * (values.ndim - 1))
    return part * values + (1 - part) * values[other]
