"""Families with a discriminator of images: VAE-GAN and InfoGAN."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrobust.models.networks import NetworkSpec
from genrobust.training.losses.base import Positive, Share, Step, TrainingLoss, Weight


class Discriminator(nn.Module):
    """Tells images of the data from made ones: (features, logit), whatever the image's size.

    The features are those of its convolutions, which still say where what is: those of the layer
    after them say little but whether an image is of the data, and a decoder that is led by them
    gives the image of another back.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(channels, 32, 4, 2, 1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(32, 64, 4, 2, 1), nn.LeakyReLU(0.2)),
        )
        self.logit = nn.Sequential(
            *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64 * 16, 128), nn.LeakyReLU(0.2)),
            nn.Linear(128, 1),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        return features.flatten(1), self.logit(features)[:, 0]


class _Adversarial(TrainingLoss):
    helper_rate: Positive = 2e-4
    helper_momentum: Share = 0.5

    def helper(self, spec: NetworkSpec) -> nn.Module:
        return Discriminator(spec.input_shape[0])

    def helper_loss(self, at: Step) -> Tensor:
        assert at.helper is not None
        loss = _cross_entropy(at.helper(at.x)[1], 1)
        for made in self.made(at):
            loss = loss + _cross_entropy(at.helper(made.detach())[1], 0)
        return loss

    def drawn(self, at: Step) -> Tensor:
        """As many codes of the prior as the batch has images."""
        return from_prior(at.network.spec, len(at.x), at.draws).to(at.x)

    def made(self, at: Step) -> list[Tensor]:
        """Batches of images that the discriminator learns to call false."""
        with torch.no_grad():
            return [at.network.decode(self.drawn(at))]


class VAEGAN(_Adversarial):
    """VAE-GAN (Larsen et al. 2016; attacked by Kos 2018): KL + a discriminator's feature error.

    The decoder must also pass for data, from the posterior's draws and from the prior's, with
    weight ``gan``; the encoder does not see that term, as in the paper's algorithm 1. ``pixels``
    is the weight of the reconstruction in pixels, 0 in the paper.
    """

    kind: Literal["vae-gan"] = "vae-gan"
    gan: Weight = 1.0
    pixels: Weight = 0.0

    def loss(self, at: Step) -> Tensor:
        assert at.helper is not None
        wanted, found = at.helper(at.x)[0], at.helper(at.image)[0]
        similar = 0.5 * (found - wanted.detach()).square().sum(1).mean()
        prior = self.drawn(at)
        passing = sum(
            _cross_entropy(at.helper(at.network.decode(code))[1], 1)
            for code in (at.code.detach(), prior)
        )
        pixels = self.pixels * at.bce
        return self(at.posterior, at.number) + similar + self.gan * passing + pixels

    def made(self, at: Step) -> list[Tensor]:
        """Of the prior's codes and of the posterior's, as in the paper's algorithm 1."""
        return [*super().made(at), at.image]


class InfoGAN(_Adversarial):
    """InfoGAN (Chen et al. 2016), whose network Q is read as the encoder.

    All of the prior's latents are codes that Q must read back: an encoder that leaves some out
    would have nothing to decode. ``information`` weighs Q's log likelihood of the code. The data
    is seen by the discriminator alone, so that nothing asks for a good reconstruction.
    """

    kind: Literal["infogan"] = "infogan"
    information: Weight = 1.0

    def loss(self, at: Step) -> Tensor:
        assert at.helper is not None
        spec = at.network.spec
        code = self.drawn(at)
        made = at.network.decode(code)
        read = at.network.encode(made)
        drawn = list(code.split([spec.gaussian, *spec.categorical], 1))
        error = torch.zeros(())
        if spec.gaussian:
            mean, logvar = read.parts[0].tensors()
            error = F.gaussian_nll_loss(mean, drawn[0], logvar.exp(), reduction="sum")
        for part, choice in zip(read.parts[bool(spec.gaussian) :], drawn[1:], strict=True):
            error = error + F.cross_entropy(part.tensors()[0], choice, reduction="sum")
        return _cross_entropy(at.helper(made)[1], 1) + self.information * error / len(at.x)

    def unfit(self, spec: NetworkSpec) -> str | None:
        if spec.deterministic or spec.top:
            return "InfoGAN's Q needs a density, of one layer of latents"
        return super().unfit(spec)


def from_prior(spec: NetworkSpec, count: int, draws: torch.Generator) -> Tensor:
    """Codes (count, latents) of the prior: standard normal, and a uniform one-hot choice each."""
    parts = [torch.randn(count, spec.gaussian + spec.top, generator=draws)]
    for size in spec.categorical:
        parts.append(F.one_hot(torch.randint(size, (count,), generator=draws), size).float())
    return torch.cat(parts, 1)


def _cross_entropy(logit: Tensor, kind: int) -> Tensor:
    return F.binary_cross_entropy_with_logits(logit, torch.full_like(logit, kind))
