"""One model as somebody writes it: how it is built and wrapped, and what it really gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHAPE, LATENTS = (1, 16, 16), 24
Truth = Callable[[nn.Module, Tensor], Tensor]


class Net(nn.Module):
    """16x16 images and 24 latents; ``body`` is what sees the image."""

    input_shape = SHAPE

    def __init__(self, body: str = "mlp") -> None:
        super().__init__()
        self.body = BODIES[body]()
        self.to_mean, self.to_logvar = nn.Linear(32, LATENTS), nn.Linear(32, LATENTS)
        self.from_code = nn.Sequential(nn.Linear(LATENTS, 64), nn.ReLU(), nn.Linear(64, 256))
        self.register_buffer("codes", torch.randn(16, LATENTS))

    def mean(self, x: Tensor) -> Tensor:
        return 3 * self.to_mean(self.body(x))

    def logvar(self, x: Tensor) -> Tensor:
        return self.to_logvar(self.body(x)) - 2

    def std(self, x: Tensor) -> Tensor:
        return (0.5 * self.logvar(x)).exp()

    def sample(self, x: Tensor) -> Tensor:
        std = self.std(x)
        return self.mean(x) + std * torch.randn_like(std)

    def none(self, x: Tensor) -> Tensor:
        """The log-variance of a code that has none: whatever is read as it is far from it."""
        return torch.full_like(self.mean(x), torch.inf)

    def bits(self, x: Tensor) -> Tensor:
        soft = self.mean(x).sigmoid()
        return soft + ((soft > 0.5).float() - soft).detach()

    def refined(self, x: Tensor) -> Tensor:
        z = self.mean(x)
        return z + 0.3 * self.to_mean(self.body(self.image(z)))

    def quantised(self, z: Tensor) -> Tensor:
        return self.codes[torch.cdist(z, self.codes).argmin(1)]

    def image(self, z: Tensor) -> Tensor:
        return self.from_code(z).sigmoid().view(-1, *SHAPE)

    def centred(self, z: Tensor) -> Tensor:
        return self.from_code(z).tanh().view(-1, *SHAPE)


class Patches(nn.Module):
    """A transformer over 4x4 patches."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Linear(16, 32), nn.Linear(32, 32)
        self.layer = nn.TransformerEncoderLayer(32, 2, 32, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        patches = F.unfold(x, 4, stride=4).transpose(1, 2)
        return self.out(self.layer(self.embed(patches))[:, 0])


BODIES: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 32), nn.Tanh()),
    "conv": lambda: nn.Sequential(
        *(nn.Conv2d(1, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2)),
        *(nn.Conv2d(8, 2, 4, 2, 1), nn.Flatten()),
    ),
    "transformer": Patches,
}


@dataclass(frozen=True)
class Case:
    """A model, how it is wrapped, and what it really gives.

    Args:
        wrap: arguments that have nothing to do with how it is written, such as its image shape.
        mend: what to type where it is not read as it is: Python, with ``module`` at hand.
        truth: the module and own images to the own picture; default decode of the mean.
        logvar: likewise to the true log-variance; None if it has none.
    """

    name: str
    build: Callable[[], nn.Module]
    truth: Truth
    logvar: Truth | None = None
    wrap: dict[str, Any] = field(default_factory=dict)
    mend: str = ""


Members = dict[str, Callable[..., Any]]


def plain(encode: Callable[..., Any], **more: Callable[..., Any]) -> Members:
    """A model with decode and a forward that draws in it."""
    return {
        "encode": encode,
        "decode": Net.image,
        "forward": lambda s, x: (s.image(s.sample(x)), s.mean(x), s.logvar(x)),
        **more,
    }


def built(members: Members, body: str) -> nn.Module:
    return type("VAE", (Net,), members)(body)
