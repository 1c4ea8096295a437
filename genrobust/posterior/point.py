"""A point: what the encoder of a plain autoencoder gives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.errors import GenrobustError
from genrobust.posterior.base import Part, same_kind
from genrobust.posterior.precision import wide


@dataclass(frozen=True, eq=False)
class Point(Part):
    """The code of a plain autoencoder: a ``value`` (B, ...) and no density.

    Example:
        >>> import torch
        >>> Point(torch.ones(2, 3)).mode().shape
        torch.Size([2, 3])
    """

    name = "point"
    has_density = False

    value: Tensor

    def mode(self) -> Tensor:
        return self.value

    def vector(self) -> Tensor:
        return self.value.flatten(1)

    def rsample(self, noise: Tensor, temperature: float) -> Tensor:
        return self.value

    def kl(self, other: Part) -> Tensor:
        raise GenrobustError(
            "this model's encoder gives a point, and a KL divergence needs a density; "
            "use an attack on means such as 'latent'"
        )

    def squared_wasserstein2(self, other: Part) -> Tensor:
        moved = wide(self.value) - wide(same_kind(self, other).value)
        return moved.square().flatten(1).sum(1)

    def kl_to_prior(self) -> Tensor:
        return self.value.new_zeros(self.value.shape[0], 0, dtype=torch.float64)
