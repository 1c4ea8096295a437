"""The convolutional VAE of the thesis' Table 3.1: the one network behind every model we train."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from genrobust.posterior import Categorical, Gaussian, Part, Posterior

Size = Annotated[int, Field(strict=True, le=10**12)]
Length = Annotated[Size, Field(ge=1)]


class NetworkSpec(BaseModel):
    """Which network: its input (channels, height, width) and its latents.

    ``gaussian`` is how many there are, ``categorical`` the number of classes of each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_shape: tuple[Length, Length, Length] = (1, 32, 32)
    gaussian: Annotated[Size, Field(ge=0)] = 10
    categorical: tuple[Length, ...] = ()

    @model_validator(mode="after")
    def _can_be_built(self) -> NetworkSpec:
        _, height, width = self.input_shape
        if height % 8 or width % 8:  # three convolutions halve them
            raise ValueError(f"height and width must be multiples of 8, got {height}x{width}")
        if not self.gaussian and not self.categorical:
            raise ValueError("a network needs at least one latent, gaussian or categorical")
        return self


class ConvVAE(nn.Module):
    """Encoder conv 32-32-64 and dense 128; the decoder mirrors it (Sootla 2018, Table 3.1).

    Convolutions are 4x4 with stride 2 and ReLU; the decoder ends in a sigmoid. ``encode`` takes
    images (B, C, 32, 32) in [0, 1] and gives a :class:`~genrobust.posterior.Posterior`;
    ``decode`` takes its codes (B, latents).

    Example:
        >>> vae = ConvVAE(NetworkSpec(categorical=(10,)))
        >>> vae.decode(vae.encode(torch.rand(2, 1, 32, 32)).mode()).shape
        torch.Size([2, 1, 32, 32])
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        channels, height, width = spec.input_shape
        self.spec = spec
        self.input_shape = spec.input_shape
        grid = (64, height // 8, width // 8)
        features = grid[0] * grid[1] * grid[2]
        outputs = 2 * spec.gaussian + sum(spec.categorical)
        self.encoder = nn.Sequential(
            *(nn.Conv2d(channels, 32, 4, 2, 1), nn.ReLU()),
            *(nn.Conv2d(32, 32, 4, 2, 1), nn.ReLU()),
            *(nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU()),
            nn.Flatten(),
            *(nn.Linear(features, 128), nn.ReLU()),
            nn.Linear(128, outputs),
        )
        self.decoder = nn.Sequential(
            *(nn.Linear(spec.gaussian + sum(spec.categorical), 128), nn.ReLU()),
            *(nn.Linear(128, features), nn.ReLU()),
            nn.Unflatten(1, grid),
            *(nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU()),
            *(nn.ConvTranspose2d(32, 32, 4, 2, 1), nn.ReLU()),
            *(nn.ConvTranspose2d(32, channels, 4, 2, 1), nn.Sigmoid()),
        )

    def encode(self, x: Tensor) -> Posterior:
        latents = self.spec.gaussian
        mean, logvar, *logits = self.encoder(x).split([latents, latents, *self.spec.categorical], 1)
        parts: list[Part] = [Gaussian(mean, logvar)] if latents else []
        return Posterior((*parts, *map(Categorical, logits)))

    def decode(self, code: Tensor) -> Tensor:
        reconstruction: Tensor = self.decoder(code)
        return reconstruction

    def forward(self, x: Tensor) -> Tensor:
        """The deployed reconstruction."""
        return self.decode(self.encode(x).mode())


def initialised(spec: NetworkSpec, seed: int) -> ConvVAE:
    """A fresh network whose weights depend on the seed alone, not on the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ConvVAE(spec)
