"""Penalties on latents that depend on each other: beta-TCVAE, FactorVAE, DIP-VAE, Schmidhuber's."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrobust.models.networks import NetworkSpec
from genrobust.posterior import Gaussian, Posterior
from genrobust.training.losses.base import (
    OfGaussians,
    Positive,
    Share,
    Step,
    TrainingLoss,
    Weight,
    perceptron,
)


class TotalCorrelation(OfGaussians):
    """beta-TCVAE (Chen et al. 2018, eq. 4): mutual information + beta * TC + KL of each latent.

    The three are estimated by minibatch-weighted sampling, see :func:`decomposed_kl`.
    """

    kind: Literal["tc"] = "tc"
    beta: Weight = 6.0

    def loss(self, at: Step) -> Tensor:
        part = at.gaussian
        information, correlation, each = decomposed_kl(at.code, part.mean, part.logvar, at.images)
        return at.bce + information + self.beta * correlation + each


class Seatbelt(TrainingLoss):
    """Seatbelt-VAE (Willetts et al. 2021) of two layers: KL of the first, beta-TCVAE on the second.

    The first layer's prior depends on the second layer, and the decoder sees both. Both posteriors
    are read from the image, the first relative to its prior, as in later hierarchies (Vahdat &
    Kautz 2020); in the paper the second is read from a draw of the first.
    """

    kind: Literal["seatbelt"] = "seatbelt"
    beta: Weight = 6.0

    def loss(self, at: Step) -> Tensor:
        below, top = at.posterior.parts
        assert isinstance(top, Gaussian)
        code = at.code[:, -top.mean.shape[1] :]
        information, correlation, each = decomposed_kl(code, top.mean, top.logvar, at.images)
        above = information + self.beta * correlation + each
        return at.bce + below.kl_to_prior().sum(1).mean() + above

    def unfit(self, spec: NetworkSpec) -> str | None:
        if not spec.top or spec.categorical:
            return "the penalty 'seatbelt' is of two Gaussian layers; give network.top"
        return super().unfit(spec)


def decomposed_kl(
    code: Tensor, mean: Tensor, logvar: Tensor, images: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The KL to the prior as mutual information, total correlation and KL of each latent, in nats.

    Minibatch-weighted sampling (Chen et al. 2018, eq. S6): ``q(z)`` is the sum of the batch's
    posteriors at z over (batch * images). Their sum needs no estimate of ``q(z)``: it is the
    one-draw estimate of the KL itself.

    Args:
        code: one draw each of the posteriors, (B, n).
        mean: of the posteriors, (B, n).
        logvar: likewise.
        images: how many the training set has.

    Example:
        >>> code = torch.zeros(4, 2)
        >>> [round(float(part), 3) for part in decomposed_kl(code, code, code, 4)]
        [1.386, 1.386, -2.773]
    """
    density = _log_normal(code[:, None], mean[None], logvar[None])  # (draw, posterior, latent)
    weight = math.log(len(code) * images)
    joint = density.sum(2).logsumexp(1) - weight
    each = density.logsumexp(1) - weight
    own = _log_normal(code, mean, logvar).sum(1)
    prior = _log_normal(code, torch.zeros_like(mean), torch.zeros_like(mean)).sum(1)
    return (
        (own - joint).mean(),
        (joint - each.sum(1)).mean(),
        (each.sum(1) - prior).mean(),
    )


def _log_normal(z: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * (math.log(2 * math.pi) + logvar + (z - mean) ** 2 / logvar.exp())


class Factor(OfGaussians):
    """FactorVAE (Kim & Mnih 2018): KL + gamma * TC, the TC by a discriminator's density ratio.

    The discriminator tells codes from codes whose latents were shuffled over the batch. The paper
    shuffles a second batch; here it is the same one.
    """

    kind: Literal["factor"] = "factor"
    gamma: Weight = 10.0
    helper_rate: Positive = 1e-4
    helper_momentum: Share = 0.5

    def loss(self, at: Step) -> Tensor:
        assert at.helper is not None
        joint, product = at.helper(at.code).unbind(1)
        return super().loss(at) + self.gamma * (joint - product).mean()

    def helper(self, spec: NetworkSpec) -> nn.Module:
        return perceptron(spec.gaussian, 2, width=256, depth=4)

    def helper_loss(self, at: Step) -> Tensor:
        assert at.helper is not None
        codes = at.code.detach()
        shuffled = torch.stack(
            [column[torch.randperm(len(codes), generator=at.draws)] for column in codes.T], 1
        )
        kinds = torch.arange(2, device=codes.device).repeat_interleave(len(codes))
        return F.cross_entropy(at.helper(torch.cat([codes, shuffled])), kinds)


class Covariance(OfGaussians):
    """DIP-VAE (Kumar et al. 2018): KL + how far the latents' covariance is from the identity.

    Type I takes the covariance of the means (eq. 6), type II adds the mean variance (eq. 7).
    """

    kind: Literal["dip"] = "dip"
    type: Literal[1, 2] = 1
    off_diagonal: Weight = 10.0
    diagonal: Weight = 100.0

    def __call__(self, posterior: Posterior, step: int) -> Tensor:
        (part,) = posterior.parts
        mean, logvar = part.tensors()
        centred = mean - mean.mean(0)
        covariance = centred.T @ centred / len(mean)
        if self.type == 2:
            covariance = covariance + logvar.exp().mean(0).diag()
        own = covariance.diagonal()
        off = covariance.square().sum() - own.square().sum()
        penalty = self.off_diagonal * off + self.diagonal * (own - 1).square().sum()
        return super().__call__(posterior, step) + penalty


class Predictability(OfGaussians):
    """Predictability minimisation (Schmidhuber 1992): KL + gamma * what each latent says of others.

    A predictor per latent sees all the others and learns to guess it; the encoder learns to be
    unpredictable. His units lie in [0, 1]; a Gaussian's mean does not, and could run away, so the
    error counts as a share of the latent's variance: what is penalised is the explained share.
    """

    kind: Literal["predictability"] = "predictability"
    gamma: Weight = 10.0
    helper_rate: Positive = 1e-3
    helper_momentum: Share = 0.9

    def loss(self, at: Step) -> Tensor:
        return super().loss(at) + self.gamma * (1 - self._unexplained(at, at.gaussian.mean)).sum()

    def helper(self, spec: NetworkSpec) -> nn.Module:
        return nn.ModuleList(perceptron(spec.gaussian, 1, 32, 1) for _ in range(spec.gaussian))

    def helper_loss(self, at: Step) -> Tensor:
        return self._unexplained(at, at.gaussian.mean.detach()).sum()

    def _unexplained(self, at: Step, mean: Tensor) -> Tensor:
        """Each latent's squared error over its variance in the batch, (n,)."""
        assert isinstance(at.helper, nn.ModuleList)
        others = 1 - torch.eye(mean.shape[1], device=mean.device)
        guesses = [net(mean * seen) for net, seen in zip(at.helper, others, strict=True)]
        error = (torch.cat(guesses, 1) - mean).square().mean(0)
        return error / (mean.var(0, unbiased=False) + 1e-6)
