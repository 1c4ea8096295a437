"""Three classifiers of different build: what fools one of them need not fool the others.

And a committee of three more, for attacks alone: an image that fools all its members fools a
judge that it does not know more often than one that fools a single network. And the thesis', for
reproducing what it scored. All take images of any size from 16 x 16 up and were drawn for 32 x 32:
at other sizes their last maps are averaged to the grid that they have there. All but the thesis'
look at larger images as averaged to 32 x 32: reconstructions are blurred to about that, and
training takes a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: The side at which images are looked at that have a larger one.
SIDE = 32


class _Grid(nn.Module):
    """Maps (B, C, H, W) as (B, C * side * side), averaged to that grid where they are not of it."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, maps: Tensor) -> Tensor:
        grid = (self.side, self.side)
        return (maps if maps.shape[2:] == grid else F.adaptive_avg_pool2d(maps, grid)).flatten(1)


class _Looking(nn.Sequential):
    """Layers that see large images small."""

    def forward(self, x: Tensor) -> Tensor:
        size = min(x.shape[2], SIDE), min(x.shape[3], SIDE)
        seen: Tensor = super().forward(x if x.shape[2:] == size else F.adaptive_avg_pool2d(x, size))
        return seen


class LeNet(_Looking):
    """Two strided 5x5 convolutions and a dense layer: small and smooth, the attacker's judge."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(
            *(nn.Conv2d(channels, 16, 5, 2, 2), nn.ReLU()),
            *(nn.Conv2d(16, 32, 5, 2, 2), nn.ReLU()),
            _Grid(8),
            *(nn.Linear(32 * 8 * 8, 128), nn.ReLU()),
            nn.Linear(128, classes),
        )


class VGG(_Looking):
    """Stacked 3x3 convolutions with batch norm and max pooling."""

    def __init__(self, channels: int, classes: int) -> None:
        layers: list[nn.Module] = []
        for before, after in ((channels, 24), (24, 48), (48, 64)):
            layers += [nn.Conv2d(before, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
        super().__init__(
            *layers,
            _Grid(4),
            *(nn.Linear(64 * 4 * 4, 96), nn.ReLU(), nn.Dropout(0.3)),
            nn.Linear(96, classes),
        )


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            *(nn.GroupNorm(4, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, 1, 1)),
            *(nn.GroupNorm(4, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, 1, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.block(x)
        return out


class ResNet(_Looking):
    """Two residual blocks with group norm and global average pooling."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(
            nn.Conv2d(channels, 24, 4, 2, 1),
            _Residual(24),
            *(nn.SiLU(), nn.Conv2d(24, 64, 4, 2, 1)),
            _Residual(64),
            *(nn.SiLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
            nn.Linear(64 * 4, classes),
        )


class Committee(nn.Module):
    """Three small networks of different build, none of them a scorer's; their logits' mean.

    They are trained side by side, each on its own loss. (Liu et al. 2017, "Delving into
    transferable adversarial examples and black-box attacks"; Dong et al. 2018 fuse logits so.)
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        pooled: list[nn.Module] = []
        for before, after in ((channels, 16), (16, 32), (32, 64)):
            pooled += [nn.Conv2d(before, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)]
            pooled += [nn.GELU(), nn.AvgPool2d(2)]
        strided: list[nn.Module] = []
        for before, after in ((channels, 16), (16, 32), (32, 64)):
            strided += [nn.Conv2d(before, after, 4, 2, 1), nn.GroupNorm(4, after), nn.SiLU()]
        wide = [
            *(nn.Conv2d(channels, 16, 7, 2, 3), nn.ELU()),
            *(nn.Conv2d(16, 32, 5, 2, 2), nn.ELU(), nn.Conv2d(32, 32, 3, 1, 1), nn.ELU()),
        ]
        self.members = nn.ModuleList(
            [
                _Looking(*pooled, _Grid(4), nn.Linear(1024, 64), nn.GELU(), nn.Linear(64, classes)),
                _Looking(*strided, _Grid(4), nn.Dropout(0.2), nn.Linear(1024, classes)),
                _Looking(*wide, _Grid(4), nn.Dropout(0.2), nn.Linear(512, classes)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([member(x) for member in self.members]).mean(0)


class Thesis(nn.Sequential):
    """The small convolutional network that Sootla 2018 scored with, after PyTorch's example."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(
            *(nn.Conv2d(channels, 10, 5), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Conv2d(10, 20, 5), nn.Dropout2d(), nn.MaxPool2d(2), nn.ReLU()),
            _Grid(5),
            *(nn.Linear(20 * 5 * 5, 50), nn.ReLU(), nn.Dropout()),
            nn.Linear(50, classes),
        )


#: From the images' channels and the number of classes to a network.
ARCHITECTURES: dict[str, Callable[[int, int], nn.Module]] = {
    "lenet": LeNet,
    "vgg": VGG,
    "resnet": ResNet,
    "thesis": Thesis,
    "committee": Committee,
}
