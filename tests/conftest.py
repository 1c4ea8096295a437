"""Fixtures that several rooms share: small models whose every answer can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

import genrobust
from genrobust.models.networks import NetworkSpec, initialised

torch.set_num_threads(1)
settings.register_profile("genrobust", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("genrobust")

LinearBuilder = Callable[[Tensor, Tensor], genrobust.GenerativeModel]


class LinearVAE(nn.Module):
    """x_hat = D E x + 1/2 with unit posterior variance, in the precision of the images."""

    input_shape = (1, 4, 4)

    def __init__(self, encoder: Tensor, decoder: Tensor) -> None:
        super().__init__()
        self.E, self.D = nn.Parameter(encoder), nn.Parameter(decoder)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.flatten(1) @ self.E.to(x).T
        return mean, torch.zeros_like(mean)

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.D.to(z).T + 0.5).view(-1, *self.input_shape)


@pytest.fixture
def linear_vae() -> LinearBuilder:
    """Builds the model x_hat = D E x + 1/2 on 4x4 images from E (latents, 16) and D (16, latents)."""

    def build(encoder: Tensor, decoder: Tensor) -> genrobust.GenerativeModel:
        return genrobust.wrap(LinearVAE(encoder, decoder), clamp=True)

    return build


@pytest.fixture
def tiny_vae() -> genrobust.GenerativeModel:
    """The thesis' network with one categorical, untrained."""
    spec = NetworkSpec(gaussian=4, categorical=(5,))
    return genrobust.wrap(initialised(spec, seed=3))


@pytest.fixture
def repository() -> Path:
    """The root of the working tree."""
    return Path(__file__).parent.parent
