"""The VAE of the thesis' Table 3.1, and a dense one: the networks behind every model we train.

With the same layers between: an autoencoder, a vector-quantised one, two layers of latents, and a
classifier that reads the code.
"""

from __future__ import annotations

import math
from itertools import islice
from operator import not_
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from genrobust.models.lipschitz import GroupSort, Orthonormal
from genrobust.posterior import Categorical, Codebook, Gaussian, Part, Point, Posterior

Size = Annotated[int, Field(strict=True, le=10**12)]
Length = Annotated[Size, Field(ge=1)]


class NetworkSpec(BaseModel):
    """Which network: its input (channels, height, width) and its latents.

    ``gaussian`` is how many there are, ``categorical`` the number of classes of each. A
    ``deterministic`` network gives points in place of Gaussians: it is an autoencoder. ``layers``
    are convolutions, for images of 8 x 8 and more, or dense ones of 512, which read any size.

    ``top`` are the Gaussian latents of a second layer above the first. A ``codebook`` of (entries,
    channels) takes the place of all latents: an entry at each position of the convolutions' grid.
    ``classes`` are those whose logits a linear layer reads from the code. ``lipschitz`` is the most
    by which encoder, and decoder before its sigmoid, lengthen a change: dense layers of 256 that
    hold it, standard deviations below 1. What was not there at first is left out of what is written
    while it is as it was before it could be chosen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_shape: tuple[Length, Length, Length] = (1, 32, 32)
    gaussian: Annotated[Size, Field(ge=0)] = 10
    categorical: tuple[Length, ...] = ()
    deterministic: Annotated[bool, Field(strict=True, exclude_if=not_)] = False
    layers: Annotated[
        Literal["conv", "dense"], Field(exclude_if=lambda layers: layers == "conv")
    ] = "conv"
    top: Annotated[Size, Field(ge=0, exclude_if=not_)] = 0
    codebook: Annotated[
        tuple[Annotated[Size, Field(ge=2)], Length] | None, Field(exclude_if=not_)
    ] = None
    classes: Annotated[Size, Field(ge=0, exclude_if=not_)] = 0
    lipschitz: Annotated[
        Annotated[float, Field(strict=True, gt=0, le=1e6)] | None, Field(exclude_if=not_)
    ] = None

    @model_validator(mode="after")
    def _can_be_built(self) -> NetworkSpec:
        _, height, width = self.input_shape
        if self.layers == "conv" and min(height, width) < 8:  # three convolutions halve them
            raise ValueError(f"height and width must be 8 or more, got {height}x{width}")
        latents = self.gaussian or self.categorical
        if not latents and self.codebook is None:
            raise ValueError("a network needs at least one latent, gaussian or categorical")
        if self.codebook is not None and (latents or self.top or self.layers != "conv"):
            raise ValueError(
                "a codebook takes the place of all latents, on the grid of convolutions: set "
                "gaussian and top to 0, categorical to [] and layers to conv"
            )
        if self.lipschitz and (
            self.categorical or self.top or self.deterministic or self.layers != "dense"
        ):
            raise ValueError("lipschitz is of dense layers with Gaussian latents alone")
        if self.top and (self.deterministic or not self.gaussian):
            raise ValueError("top is a layer of Gaussian latents above others; give gaussian some")
        return self


class ConvVAE(nn.Module):
    """Encoder conv 32-32-64 and dense 128; the decoder mirrors it (Sootla 2018, Table 3.1).

    Convolutions are 4x4 with stride 2 and ReLU; the decoder ends in a sigmoid. ``encode`` takes
    images (B, C, H, W) in [0, 1] and gives a :class:`~genrobust.posterior.Posterior`;
    ``decode`` takes its codes (B, latents), or (B, positions, channels) of a codebook.

    Example:
        >>> vae = ConvVAE(NetworkSpec(categorical=(10,)))
        >>> vae.decode(vae.encode(torch.rand(2, 1, 32, 32)).mode()).shape
        torch.Size([2, 1, 32, 32])
        >>> ConvVAE(NetworkSpec(gaussian=0, codebook=(64, 8))).encode(torch.rand(2, 1, 32, 32))[
        ...     torch.tensor([0])].describe()
        '16 positions of a 64-entry codebook'
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        channels, height, width = spec.input_shape
        self.spec = spec
        self.input_shape = spec.input_shape
        gaussian = spec.gaussian + spec.top
        outputs = (2 - spec.deterministic) * gaussian + sum(spec.categorical)
        latents = gaussian + sum(spec.categorical)
        if spec.lipschitz:
            self._lipschitz(outputs, latents, spec.lipschitz ** (1 / 3))
        elif spec.layers == "dense":
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
        else:
            self._convolutions(outputs, latents)
        if spec.top:  # the first layer's prior, given the second
            self.prior = nn.Sequential(
                *(nn.Linear(spec.top, 128), nn.ReLU()), nn.Linear(128, 2 * spec.gaussian)
            )
        if spec.codebook:
            self.codebook = nn.Parameter(torch.randn(spec.codebook))
        if spec.classes:
            positions = 1 if spec.codebook is None else self._grid[0] * self._grid[1]
            size = positions * (spec.codebook[1] if spec.codebook else latents)
            self.classifier = nn.Linear(size, spec.classes)

    def _lipschitz(self, outputs: int, latents: int, each: float) -> None:
        pixels = math.prod(self.input_shape)

        def dense(inputs: int, outputs: int) -> list[nn.Module]:
            return [
                *(Orthonormal(inputs, 256, each), GroupSort()),
                *(Orthonormal(256, 256, each), GroupSort()),
                Orthonormal(256, outputs, each),
            ]

        self.encoder = nn.Sequential(nn.Flatten(), *dense(pixels, outputs))
        self.decoder = nn.Sequential(
            *dense(latents, pixels), nn.Sigmoid(), nn.Unflatten(1, self.input_shape)
        )

    def _convolutions(self, outputs: int, latents: int) -> None:
        spec, (channels, *sides) = self.spec, self.spec.input_shape
        halved = [[side // 2**times for side in sides] for times in range(4)]
        # A side that was odd lost a row, which the way back adds.
        odd = [(height % 2, width % 2) for height, width in halved]
        self._grid = halved[3]
        features = 64 * self._grid[0] * self._grid[1]

        def dense(*sizes: int) -> list[nn.Module]:
            return [nn.Linear(sizes[0], sizes[1]), nn.ReLU(), nn.Linear(sizes[1], sizes[2])]

        self.encoder = nn.Sequential(
            *(nn.Conv2d(channels, 32, 4, 2, 1), nn.ReLU()),
            *(nn.Conv2d(32, 32, 4, 2, 1), nn.ReLU()),
            *(nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU()),
            *(
                [nn.Conv2d(64, spec.codebook[1], 1)]
                if spec.codebook
                else [nn.Flatten(), *dense(features, 128, outputs)]
            ),
        )
        self.decoder = nn.Sequential(
            *(
                [nn.Conv2d(spec.codebook[1], 64, 1), nn.ReLU()]
                if spec.codebook
                else [*dense(latents, 128, features), nn.ReLU(), nn.Unflatten(1, (64, *self._grid))]
            ),
            *(nn.ConvTranspose2d(64, 32, 4, 2, 1, odd[2]), nn.ReLU()),
            *(nn.ConvTranspose2d(32, 32, 4, 2, 1, odd[1]), nn.ReLU()),
            *(nn.ConvTranspose2d(32, channels, 4, 2, 1, odd[0]), nn.Sigmoid()),
        )

    def encode(self, x: Tensor) -> Posterior:
        spec, out = self.spec, self.encoder(x)
        if spec.codebook:
            return Posterior((Codebook(out.flatten(2).transpose(1, 2), self.codebook),))
        if spec.lipschitz:  # the standard deviation is a sigmoid, whose slope is at most 1/4
            mean, raw = out.chunk(2, 1)
            return Posterior((Gaussian(mean, 2 * F.logsigmoid(raw)),))
        layers = [size for size in (spec.gaussian, spec.top) if size]
        each = 1 if spec.deterministic else 2
        found = iter(out.split([*(n for n in layers for _ in range(each)), *spec.categorical], 1))
        kind = Point if spec.deterministic else Gaussian
        parts: list[Part] = [kind(*islice(found, each)) for _ in layers]
        return Posterior((*parts, *map(Categorical, found)))

    def decode(self, code: Tensor) -> Tensor:
        if self.spec.codebook:
            code = code.transpose(1, 2).unflatten(2, self._grid)
        if self.spec.top:
            # The first layer's latents are noise of its prior given the second layer's: so each
            # layer's own prior is the standard normal, and the KL to it that of the model.
            own, top = code[:, : self.spec.gaussian], code[:, self.spec.gaussian :]
            mean, logvar = self.prior(top[:, : self.spec.top]).chunk(2, 1)
            code = torch.cat([mean + (logvar / 2).exp() * own, top], 1)
        reconstruction: Tensor = self.decoder(code)
        return reconstruction

    def classify(self, code: Tensor) -> Tensor:
        """Class logits (B, classes) of codes, where the spec has classes."""
        logits: Tensor = self.classifier(code.flatten(1))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """The deployed reconstruction."""
        return self.decode(self.encode(x).mode())


class Classifier(nn.Module):
    """A network's class logits of images: a deep VIB as the classifier that it is, for a judge.

    Args:
        network: a :class:`ConvVAE` whose spec has classes.

    Example:
        >>> network = ConvVAE(NetworkSpec(classes=10))
        >>> Classifier(network)(torch.rand(2, 1, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, network: ConvVAE) -> None:
        super().__init__()
        self.network = network
        self.input_shape = network.input_shape

    def forward(self, x: Tensor) -> Tensor:
        """Of the posterior's mode."""
        return self.network.classify(self.network.encode(x).mode())


def initialised(spec: NetworkSpec, seed: int) -> ConvVAE:
    """A fresh network whose weights depend on the seed alone, not on the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ConvVAE(spec)
