"""Small models with every kind of posterior part, and their codes in closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import genrobust
from genrobust.judges import Judge
from genrobust.posterior import Categorical, Codebook, Gaussian, Grid
from genrobust.seeding import generator

#: Features of 2x2 positions with three channels each, of a grey image of 8x8.
CHANNELS = 3


class Positions(nn.Module):
    """A convolution to features (B, 3, 2, 2), a decoder back, and what is between.

    Args:
        read: features to what ``encode`` returns.
        channels: of the code.
    """

    input_shape = (1, 8, 8)

    def __init__(self, read: Callable[[Positions, Tensor], Any], channels: int = CHANNELS) -> None:
        super().__init__()
        self.read = read
        self.down = nn.Conv2d(1, CHANNELS, 4, 4)
        self.up = nn.ConvTranspose2d(channels, 1, 4, 4)
        for parameter in self.parameters():
            parameter.data.normal_(std=0.8, generator=generator("parts", parameter.numel()))
        self.book = nn.Parameter(torch.randn(2, 5, CHANNELS, generator=generator("book")))

    def encode(self, x: Tensor) -> Any:
        return self.read(self, self.down(x - 0.5))

    def decode(self, code: Any) -> Tensor:
        if isinstance(code, list):
            code = code[0] + code[1].view(-1, 1, 1, 1)
        if code.shape[-1] == CHANNELS and code.ndim == 4:  # a grid of one-hot codes
            code = code.permute(0, 3, 1, 2)
        return self.up(code).sigmoid()


READERS: dict[str, Callable[[Positions, Tensor], Any]] = {
    "spatial categorical": lambda m, f: Categorical(f.permute(0, 2, 3, 1)),
    "codebook": lambda m, f: Codebook(f, m.book[0]),
    "residual": lambda m, f: Codebook(f, m.book),
    "grid": lambda m, f: Grid(f.tanh(), Grid.levels([3, 2, 4])),
    "layers": lambda m, f: [
        Codebook(f, m.book[0]),
        Gaussian(f.mean((1, 2, 3))[:, None], 0 * f[:, 0, 0, :1]),
    ],
}


def positions(kind: str) -> genrobust.GenerativeModel:
    """The model of that kind of part."""
    return genrobust.wrap(Positions(READERS[kind]), name=kind)


class Nearest(nn.Module):
    """The nearest of four entries to features A x; the reconstruction shows which."""

    input_shape = (1, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(16, 4)
        self.map.weight.data = 0.3 * torch.randn(4, 16, generator=generator("A"))
        self.map.bias.data.zero_()
        self.book = nn.Parameter(torch.eye(4))

    def encode(self, x: Tensor) -> Codebook:
        return Codebook(self.map(x.flatten(1)), self.book)

    def decode(self, code: Tensor) -> Tensor:
        image = torch.cat([code, torch.zeros(len(code), 12).to(code)], 1)
        return image.view(-1, 1, 4, 4)

    def smallest(self, x: Tensor, order: int) -> Tensor:
        """The least L2 (order 2) or L-inf (order 1, the dual) change that flips the token, (B,)."""
        features, book = self.map(x.flatten(1)), self.book
        apart = (features[:, None] - book).square().sum(-1)
        own = apart.argmin(1)
        gap = apart - apart.gather(1, own[:, None])
        slope = 2 * (book[own][:, None] - book) @ self.map.weight
        length = slope.norm(p=order, dim=-1)
        return torch.where(length > 0, gap / length, torch.inf).amin(1).detach()


def shows_the_brightest(pixels: int = 16) -> Judge:
    """A judge whose class is the brightest of the first four pixels."""
    layer = nn.Linear(pixels, 4, bias=False)
    layer.weight.data = 10 * torch.eye(4, pixels)
    return Judge("brightest", nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(False), "0")
