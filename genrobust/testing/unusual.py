"""Honest models of unusual makes, by the author of the masks of ``outside``: none has a flag.

The first are trained on digits for some seconds; the others are the given model in other numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import wraps
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genrobust.data.base import load_images
from genrobust.models.model import GenerativeModel
from genrobust.models.wrapping import wrap

#: Steps of training, images a step, and the weight of the KL divergence, low as steps are few.
STEPS, BATCH, BETA = 400, 64, 0.1


def _trained(build: Callable[[], nn.Module]) -> Callable[[GenerativeModel], GenerativeModel]:
    """What is built, trained on the beta-VAE's loss; of the given model it takes nothing."""

    @wraps(build)
    def make(model: GenerativeModel) -> GenerativeModel:
        data = load_images("digits", "train")
        images = data.take(range(len(data)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net: Any = build()
            optimizer = torch.optim.Adam(net.parameters(), 2e-3)
            for _ in range(STEPS):
                x = images[torch.randint(len(images), (BATCH,))]
                optimizer.zero_grad()
                _loss(net, x).backward()
                optimizer.step()
        return wrap(net, input_shape=(1, 32, 32), name=build.__name__.replace("_", " "))

    return make


def _loss(net: Any, x: Tensor) -> Tensor:
    """Of the beta-VAE, in nats an image."""
    q = net.encode(x)
    mean, std = (q[0], (q[1] / 2).exp()) if isinstance(q, tuple) else (q.mean, q.stddev)
    y = net.decode(mean + std * torch.randn_like(mean)).clamp(1e-6, 1 - 1e-6)
    kl = (mean**2 + std**2 - 1) / 2 - std.log()
    return (F.binary_cross_entropy(y, x, reduction="sum") + BETA * kl.sum()) / len(x)


class _VAE(nn.Module):
    """An encoder to twice the latents and a decoder to 32 x 32 pixels."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.enc, self.dec = encoder, decoder

    def encode(self, x: Tensor) -> Any:
        return self.enc(x).chunk(2, 1)

    def decode(self, z: Tensor) -> Tensor:
        return self.dec(z).view(-1, 1, 32, 32)


def _dense(*sizes: int, act: Callable[[], nn.Module], last: nn.Module | None = None) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), act()]
    return nn.Sequential(*layers[:-1], *([last] if last else []))


@_trained
def leaky() -> nn.Module:
    """Leaky ReLUs with a slope of 0.2, convolutions."""
    return _VAE(
        nn.Sequential(
            *(nn.Conv2d(1, 16, 4, 2, 1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(16, 32, 4, 2, 1), nn.LeakyReLU(0.2)),
            *(nn.Flatten(), nn.Linear(2048, 20)),
        ),
        nn.Sequential(
            *(nn.Linear(10, 2048), nn.LeakyReLU(0.2), nn.Unflatten(1, (32, 8, 8))),
            *(nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.LeakyReLU(0.2)),
            *(nn.ConvTranspose2d(16, 1, 4, 2, 1), nn.Sigmoid()),
        ),
    )


@_trained
def grouped() -> nn.Module:
    """Group norm, whose statistics are each image's own, and GELU."""
    return _VAE(
        nn.Sequential(
            *(nn.Conv2d(1, 16, 4, 2, 1), nn.GroupNorm(4, 16), nn.GELU()),
            *(nn.Conv2d(16, 32, 4, 2, 1), nn.GroupNorm(4, 32), nn.GELU()),
            *(nn.Flatten(), nn.Linear(2048, 20)),
        ),
        _dense(10, 256, 1024, act=nn.GELU, last=nn.Sigmoid()),
    )


class _Tied(nn.Module):
    """Linear both ways by one matrix, clipped."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(10, 1024))
        self.bias = nn.Parameter(torch.zeros(1024))
        self.logvar = nn.Parameter(torch.full((10,), -2.0))

    def encode(self, x: Tensor) -> Any:
        mean = (x.flatten(1) - self.bias) @ self.weight.T
        return mean, self.logvar.expand_as(mean)

    def decode(self, z: Tensor) -> Tensor:
        return F.hardtanh(z @ self.weight + self.bias, 0, 1).view(-1, 1, 32, 32)


@_trained
def tied() -> nn.Module:
    """Linear both ways by one matrix, clipped."""
    return _Tied()


@_trained
def six() -> nn.Module:
    """ReLU6 and a hard sigmoid at the end: flat in places, truly."""
    return _VAE(
        _dense(1024, 256, 256, 20, act=nn.ReLU6),
        _dense(10, 256, 1024, act=nn.ReLU6, last=nn.Hardsigmoid()),
    )


@_trained
def max_pooled() -> nn.Module:
    """Max pooling: the gradient is sparse."""
    return _VAE(
        nn.Sequential(
            *(nn.Conv2d(1, 16, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(4)),
            *(nn.Conv2d(16, 32, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(512, 20)),
        ),
        _dense(10, 256, 1024, act=nn.ReLU, last=nn.Sigmoid()),
    )


@_trained
def dropped() -> nn.Module:
    """Dropout and batch norm, in eval mode at the attack."""
    return _VAE(
        nn.Sequential(
            *(nn.Flatten(), nn.Dropout(0.1), nn.Linear(1024, 256), nn.BatchNorm1d(256), nn.ReLU()),
            *(nn.Dropout(0.1), nn.Linear(256, 20)),
        ),
        _dense(10, 256, 1024, act=nn.ReLU, last=nn.Sigmoid()),
    )


@_trained
def wide_code() -> nn.Module:
    """256 latents."""
    return _VAE(
        _dense(1024, 256, 512, act=nn.Tanh), _dense(256, 256, 1024, act=nn.Tanh, last=nn.Sigmoid())
    )


class _Normal(_VAE):
    """A torch distribution, its standard deviation by softplus."""

    def encode(self, x: Tensor) -> Any:
        mean, raw = self.enc(x).chunk(2, 1)
        return torch.distributions.Normal(mean, F.softplus(raw) + 1e-3)


@_trained
def softplus() -> nn.Module:
    """A torch distribution, its standard deviation by softplus."""
    return _Normal(
        _dense(1024, 256, 20, act=nn.ReLU), _dense(10, 256, 1024, act=nn.ReLU, last=nn.Sigmoid())
    )


class _Rows(nn.Module):
    """A recurrent net over the rows of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(32, 96, batch_first=True), nn.Linear(96, 20)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x[:, 0])[0][:, -1])


@_trained
def recurrent() -> nn.Module:
    """A recurrent net over the rows of the image."""
    return _VAE(_Rows(), _dense(10, 256, 1024, act=nn.ELU, last=nn.Sigmoid()))


class _Patches(nn.Module):
    """Attention over 16 patches of 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 48, 8, 8)
        self.place = nn.Parameter(0.1 * torch.randn(16, 48))
        self.attend = nn.TransformerEncoderLayer(48, 4, 96, 0.0, batch_first=True)
        self.head = nn.Linear(48 * 16, 20)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).mT + self.place
        return self.head(self.attend(tokens).flatten(1))


@_trained
def attentive() -> nn.Module:
    """Attention over patches."""
    return _VAE(_Patches(), _dense(10, 256, 1024, act=nn.ReLU, last=nn.Sigmoid()))


def _changed(
    name: str, change: Callable[[nn.Module], nn.Module]
) -> Callable[[GenerativeModel], GenerativeModel]:
    """The given model's network, changed."""

    def make(model: GenerativeModel) -> GenerativeModel:
        return wrap(change(deepcopy(model.module)), input_shape=model.input_shape, name=name)

    return make


def _rounded(net: nn.Module) -> nn.Module:
    for parameter in net.parameters():
        parameter.data = (parameter.data * 64).round() / 64
    return net


#: Weights rounded to 1/64, as a small device keeps them, and in other precisions.
coarse_weights = _changed("coarse weights", _rounded)
half_weights = _changed("half weights", nn.Module.half)
bfloat16_weights = _changed("bfloat16 weights", nn.Module.bfloat16)
double_weights = _changed("double weights", nn.Module.double)


class _Units(nn.Module):
    units: Tensor

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net: Any = net
        self.register_buffer("units", torch.logspace(-3, 3, 10))

    def encode(self, x: Tensor) -> Any:
        q = self.net.encode(x).parts[0]
        return q.mean * self.units, q.logvar + 2 * self.units.log()

    def decode(self, z: Tensor) -> Tensor:
        return self.net.decode(z / self.units)


#: Each latent in a unit of its own, from 1e-3 to 1e3.
uneven_units = _changed("uneven units", _Units)
