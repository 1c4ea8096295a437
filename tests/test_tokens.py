"""Codebook models of other people, read as tokens without a line typed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from some_sources import digits
from torch import Tensor, nn

import genrobust
from genrobust.errors import GenrobustWarning
from genrobust.models import GenerativeModel
from genrobust.models.check import probe_images
from genrobust.models.portable import export_model, load_portable
from genrobust.posterior import Codebook, Point
from genrobust.records.record import Record
from genrobust.seeding import generator
from genrobust.suites import load_suite


class Nearest(nn.Module):
    """A quantiser of (B, N, D); with ``straight`` the gradient goes past it."""

    def __init__(self, book: Tensor, straight: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(book)
        self.straight = straight

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        tokens = torch.cdist(z, self.embedding.weight.expand(len(z), -1, -1)).argmin(-1)
        code = self.embedding(tokens)
        return (z + (code - z).detach() if self.straight else code.detach()), tokens


class Pairs(nn.Module):
    """The zoo's VAE whose latents are quantised two by two, in encode."""

    input_shape = (1, 32, 32)

    def __init__(self, straight: bool = False) -> None:
        super().__init__()
        self.inner = genrobust.load_model("vae").module
        book = 1.5 * torch.randn(48, 2, generator=generator("book"))
        self.quantizer = Nearest(book, straight)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self.quantizer(self.features(x))
        return found

    def features(self, x: Tensor) -> Tensor:
        mean: Tensor = self.inner.encode(x)["cont"][0]
        return mean.view(len(x), -1, 2)

    def decode(self, code: Tensor) -> Tensor:
        image: Tensor = self.inner.decode(code.flatten(1))
        return image

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x)[0])


def part_of(model: GenerativeModel) -> Any:
    (part,) = model.encode(probe_images(model.input_shape)).parts
    return part
