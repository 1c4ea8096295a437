"""Boxes sent through layers: what a network can give for any input of a box."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrobust.errors import GenrobustError
from genrobust.models.networks import ConvVAE

Box = tuple[Tensor, Tensor]

#: Layers that keep order, number by number.
_MONOTONE = (nn.ReLU, nn.Sigmoid, nn.Flatten, nn.Unflatten)
_LINEAR = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def through(layers: nn.Module, box: Box) -> Box:
    """The least and the most of each number that layers give for inputs of a box (Gowal 2018).

    Each layer's bounds are tight for the box before it, and wide for several in a row. Rounding is
    not bounded.

    Args:
        layers: a sequence of linear ones, convolutions, ReLU, sigmoid and reshaping.
        box: lower and upper ends, (B, ...) each.

    Raises:
        GenrobustError: there is a layer of another kind.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, -2.0]]))
        >>> low, high = through(layer, (torch.zeros(1, 2), torch.ones(1, 2)))
        >>> low.item(), high.item()
        (-2.0, 1.0)
    """
    for layer in layers if isinstance(layers, nn.Sequential) else [layers]:
        low, high = box
        if isinstance(layer, _LINEAR):
            middle = _linear(layer, (low + high) / 2, layer.weight, layer.bias)
            radius = _linear(layer, (high - low) / 2, layer.weight.abs(), None)
            box = middle - radius, middle + radius
        elif isinstance(layer, _MONOTONE):
            box = layer(low), layer(high)
        else:
            raise GenrobustError(
                f"no bounds of a {type(layer).__name__} are known; give a network of linear "
                "layers, convolutions, ReLU and sigmoid, such as that of 'vae'"
            )
    return box


def code_box(network: ConvVAE, x: Tensor, eps: float) -> tuple[Box, Tensor]:
    """The means that images within eps of x in L-inf can have, and the most of the deviations.

    Args:
        network: with one layer of Gaussian latents.
        x: images, (B, C, H, W) in [0, 1].
        eps: of pixels in [0, 1], from 0.

    Returns:
        Lower and upper ends (B, n) of the means, and the deviations' upper ends (B, n).
    """
    low, high = through(network.encoder, ((x - eps).clamp(0, 1), (x + eps).clamp(0, 1)))
    n = network.spec.gaussian
    return (low[:, :n], high[:, :n]), (high[:, n:] / 2).exp()


def support(means: Box, deviation: Tensor, share: float) -> Box:
    """A box that holds a draw of any posterior of a set with probability ``share`` or more.

    Each latent's interval holds ``share ** (1 / n)`` of the normal of any mean of the set, and of
    any deviation up to the greatest, as latents are independent (Xu et al. 2025).

    Args:
        means: lower and upper ends, (B, n).
        deviation: the greatest, (B, n).
        share: between 0 and 1.

    Example:
        >>> low, high = support((torch.zeros(1, 1), torch.ones(1, 1)), torch.ones(1, 1), 0.95)
        >>> round(low.item(), 2), round(high.item(), 2)
        (-1.96, 2.96)
    """
    each = torch.tensor(share, dtype=torch.float64) ** (1 / deviation.shape[1])
    reach = float(torch.special.ndtri((1 + each) / 2)) * deviation
    return means[0] - reach, means[1] + reach


def _linear(layer: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    assert isinstance(layer, nn.ConvTranspose2d)
    at = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
    extra: Any = {**at, "output_padding": layer.output_padding, "groups": layer.groups}
    return F.conv_transpose2d(x, weight, bias, **extra)
