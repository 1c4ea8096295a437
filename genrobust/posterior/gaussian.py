"""A diagonal Gaussian: the posterior of most VAEs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.posterior.base import Part, same_kind
from genrobust.posterior.precision import exponential, wide


@dataclass(frozen=True, eq=False)
class Gaussian(Part):
    """A diagonal Gaussian: ``mean`` and ``logvar`` of one shape (B, ...).

    Example:
        >>> part = Gaussian(mean=torch.tensor([[1.0, 0.0]]), logvar=torch.zeros(1, 2))
        >>> part.mode(), part.kl_to_prior()
        (tensor([[1., 0.]]), tensor([[0.5000, 0.0000]], dtype=torch.float64))
    """

    name = "gaussian"

    mean: Tensor
    logvar: Tensor

    def mode(self) -> Tensor:
        return self.mean

    def vector(self) -> Tensor:
        return self.mean.flatten(1)

    def rsample(self, noise: Tensor, temperature: float) -> Tensor:
        drawn = wide(self.mean) + exponential(wide(self.logvar), 0.5) * noise
        largest = torch.finfo(self.mean.dtype).max
        return drawn.clamp(-largest, largest).to(self.mean)

    def draw_noise(self, generator: torch.Generator) -> Tensor:
        noise = torch.randn(self.mean.shape, generator=generator, device=generator.device)
        return noise.to(self.mean)

    def kl(self, other: Part) -> Tensor:
        that = same_kind(self, other)
        return _gaussian_kl(self, wide(that.mean), wide(that.logvar)).flatten(1).sum(1)

    def squared_wasserstein2(self, other: Part) -> Tensor:
        that = same_kind(self, other)
        std, other_std = (exponential(wide(part.logvar), 0.5) for part in (self, that))
        moved = wide(self.mean) - wide(that.mean)
        return (moved.square() + (std - other_std).square()).flatten(1).sum(1)

    def kl_to_prior(self) -> Tensor:
        zero = self.mean.new_zeros((), dtype=torch.float64)
        return _gaussian_kl(self, zero, zero).flatten(1)

    def traversal(self, latent: int, count: int, reach: float) -> Tensor:
        codes = self.mean[:1].flatten(1).repeat(count, 1)
        codes[:, latent] = torch.linspace(-reach, reach, count).to(codes)
        return codes.view(count, *self.mean.shape[1:])

    def describe(self) -> str:
        return f"{self.mean[0].numel()} Gaussian"


def _gaussian_kl(part: Gaussian, mean: Tensor, logvar: Tensor) -> Tensor:
    """KL to N(mean, exp(logvar)) of each latent, in closed form: no variance is divided by."""
    own = wide(part.logvar)
    ratio = own - logvar
    moved = (wide(part.mean) - mean) * exponential(logvar, -0.5)
    return 0.5 * (exponential(ratio) - 1 - ratio + moved.square())
