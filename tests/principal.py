"""An autoencoder that is as good on digits as the zoo's, and runs in a small part of the time."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

import genrobust


class Principal(nn.Module):
    """Images by what they have most in common."""

    input_shape = (1, 32, 32)

    def __init__(self, images: Tensor, components: int = 40) -> None:
        super().__init__()
        mean = images.flatten(1).mean(0)
        _, _, directions = torch.linalg.svd(images.flatten(1) - mean, full_matrices=False)
        self.mean, self.kept = nn.Parameter(mean), nn.Parameter(directions[:components])

    def encode(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - self.mean) @ self.kept.T

    def decode(self, code: Tensor) -> Tensor:
        return (self.mean + code @ self.kept).view(-1, *self.input_shape)


class Bright(Principal):
    """The same without a clamp: no pixel comes near the ends of the range."""

    def decode(self, code: Tensor) -> Tensor:
        return (8 * (super().decode(code) - 0.5)).sigmoid()


class Smooth(nn.Module):
    """Likewise with Gaussian latents of unit variance, bent on their way in and out."""

    input_shape = (1, 32, 32)

    def __init__(self, inner: Principal, images: Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.scale = nn.Parameter(inner.encode(images).std(0))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = 3 * (self.inner.encode(x) / self.scale / 3).tanh()
        return mean, torch.full_like(mean, -4.0)

    def decode(self, code: Tensor) -> Tensor:
        return (6 * (self.inner.decode(code * self.scale) - 0.5)).sigmoid()


@cache
def bright() -> genrobust.GenerativeModel:
    """Of the digits' training split."""
    return genrobust.wrap(Bright(_digits()))


@cache
def principal() -> genrobust.GenerativeModel:
    """Of the digits' training split."""
    return genrobust.wrap(Principal(_digits()), clamp=True)


@cache
def smooth() -> genrobust.GenerativeModel:
    """A VAE that is smooth and not linear, of the digits' training split."""
    known = _digits()
    return genrobust.wrap(Smooth(Principal(known, 24), known))


def _digits() -> Tensor:
    images = genrobust.load_images("digits", "train")
    return images.take(range(len(images)))
