"""The VAE of the thesis' Table 3.1, and a dense one: the networks behind every model we train."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from torch import Tensor, nn

from genrobust.posterior import Categorical, Gaussian, Part, Point, Posterior

Size = Annotated[int, Field(strict=True, le=10**12)]
Length = Annotated[Size, Field(ge=1)]


class NetworkSpec(BaseModel):
    """Which network: its input (channels, height, width) and its latents.

    ``gaussian`` is how many there are, ``categorical`` the number of classes of each. A
    ``deterministic`` network gives points in place of Gaussians: it is an autoencoder. ``layers``
    are convolutions, or dense ones of 512, which read images of any size. The last two are left
    out of what is written while they are as they were before they could be chosen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_shape: tuple[Length, Length, Length] = (1, 32, 32)
    gaussian: Annotated[Size, Field(ge=0)] = 10
    categorical: tuple[Length, ...] = ()
    deterministic: Annotated[bool, Field(strict=True)] = False
    layers: Literal["conv", "dense"] = "conv"

    @model_validator(mode="after")
    def _can_be_built(self) -> NetworkSpec:
        _, height, width = self.input_shape
        if self.layers == "conv" and (height % 8 or width % 8):  # three convolutions halve them
            raise ValueError(f"height and width must be multiples of 8, got {height}x{width}")
        if not self.gaussian and not self.categorical:
            raise ValueError("a network needs at least one latent, gaussian or categorical")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = plain(self)
        new = {"deterministic": False, "layers": "conv"}
        return {k: v for k, v in content.items() if k not in new or v != new[k]}


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
        outputs = (2 - spec.deterministic) * spec.gaussian + sum(spec.categorical)
        latents = spec.gaussian + sum(spec.categorical)
        if spec.layers == "dense":
            self.encoder = nn.Sequential(
                nn.Flatten(),
                *(nn.Linear(channels * height * width, 512), nn.ReLU()),
                *(nn.Linear(512, 512), nn.ReLU()),
                nn.Linear(512, outputs),
            )
            self.decoder = nn.Sequential(
                *(nn.Linear(latents, 512), nn.ReLU()),
                *(nn.Linear(512, 512), nn.ReLU()),
                *(nn.Linear(512, channels * height * width), nn.Sigmoid()),
                nn.Unflatten(1, spec.input_shape),
            )
            return
        grid = (64, height // 8, width // 8)
        features = grid[0] * grid[1] * grid[2]
        self.encoder = nn.Sequential(
            *(nn.Conv2d(channels, 32, 4, 2, 1), nn.ReLU()),
            *(nn.Conv2d(32, 32, 4, 2, 1), nn.ReLU()),
            *(nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU()),
            nn.Flatten(),
            *(nn.Linear(features, 128), nn.ReLU()),
            nn.Linear(128, outputs),
        )
        self.decoder = nn.Sequential(
            *(nn.Linear(latents, 128), nn.ReLU()),
            *(nn.Linear(128, features), nn.ReLU()),
            nn.Unflatten(1, grid),
            *(nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU()),
            *(nn.ConvTranspose2d(32, 32, 4, 2, 1), nn.ReLU()),
            *(nn.ConvTranspose2d(32, channels, 4, 2, 1), nn.Sigmoid()),
        )

    def encode(self, x: Tensor) -> Posterior:
        latents, kinds = self.spec.gaussian, self.spec.categorical
        own = [latents] if self.spec.deterministic else [latents, latents]
        found = self.encoder(x).split([*own, *kinds], 1)
        logits = found[len(own) :]
        kind = Point if self.spec.deterministic else Gaussian
        parts: list[Part] = [kind(*found[: len(own)])] if latents else []
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
