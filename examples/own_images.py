"""Your own colour VAE, your own classifier and your own pictures, scored by one command.

    genrobust bench --model examples/own_images.py:VAE --data FOLDER \
        --judge examples/own_images.py:Classifier

FOLDER has a sub-folder of pictures for each class, of any sizes. Without --judge the pictures are
scored without labels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class VAE(nn.Module):
    """64x64 in colour; any module that has ``encode`` and ``decode`` will do."""

    input_shape = (3, 64, 64)

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv2d(3, 16, 4, 4), nn.ReLU(), nn.Conv2d(16, 32, 4, 4), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(512, 64)),
        )
        self.decoder = nn.Sequential(
            *(nn.Linear(32, 512), nn.ReLU(), nn.Unflatten(1, (32, 4, 4))),
            *(nn.ConvTranspose2d(32, 16, 4, 4), nn.ReLU(), nn.ConvTranspose2d(16, 3, 4, 4)),
            nn.Sigmoid(),
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance."""
        mean, logvar = self.encoder(x).chunk(2, 1)
        return mean, logvar

    def decode(self, z: Tensor) -> Tensor:
        """Pictures in [0, 1]."""
        return self.decoder(z)


class Classifier(nn.Module):
    """Says which of red, green and blue, in the order of the folders' names, is the strongest."""

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(20.0))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 3) of blue, green and red; put your own network here."""
        return self.sharpness * x.mean((2, 3)).flip(1)
