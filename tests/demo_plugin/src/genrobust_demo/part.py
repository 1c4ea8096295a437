"""A posterior part of its own: codes of signs, and a model that has them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genrobust.posterior import FREE, Discrete, Part
from genrobust_demo.model import Cosine


@dataclass(frozen=True, eq=False)
class Sign(Discrete):
    """The sign of each value (B, n), -1 or 1."""

    name = "demo-sign"
    has_density = False

    values: Tensor

    def mode(self) -> Tensor:
        return torch.where(self.values > 0, 1.0, -1.0).to(self.values)

    def vector(self) -> Tensor:
        return self.values

    def relaxed(self, temperature: float) -> Tensor:
        return (self.values / temperature).tanh()

    def straight_through(self) -> Tensor:
        return self.mode() + self.values - self.values.detach()

    def rsample(self, noise: Tensor, temperature: float) -> Tensor:
        return self.relaxed(temperature)

    def kl(self, other: Part) -> Tensor:
        return self.squared_wasserstein2(other)

    def squared_wasserstein2(self, other: Part) -> Tensor:
        return (self.vector() - other.vector()).double().square().sum(1)

    def kl_to_prior(self) -> Tensor:
        return torch.full_like(self.values, 2).double().log()

    def scores(self) -> Tensor:
        return torch.stack([-self.values, self.values], -1)

    def pinned(self, wanted: Tensor) -> Tensor:
        return torch.where(wanted == FREE, self.straight_through(), 2.0 * wanted - 1)


class Signs(Cosine):
    """An image's lowest frequencies, of which only the signs are kept."""

    def encode(self, x: Tensor) -> Sign:
        return Sign(super().encode(x - 0.5))

    def decode(self, code: Tensor) -> Tensor:
        return super().decode(code).mul(0.5).add(0.25)


def signs(dataset: str) -> nn.Module:
    """The model for any dataset of grey images of that size."""
    return Signs(kept=6)
