"""How far apart two pictures look to a network: LPIPS (Zhang et al. 2018)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from genrobust import arguments
from genrobust.errors import GenrobustError, unknown_name
from genrobust.metrics.checks import require_same_shape
from genrobust.models.weights import read_state_dict

#: The backbones, and the smallest side of an image that they see at all scales.
SIDES = {"alex": 63, "vgg": 32, "squeeze": 35}


@torch.no_grad()
def lpips(
    x: Tensor, y: Tensor, weights: str | Path, net: Literal["alex", "vgg", "squeeze"] = "alex"
) -> Tensor:
    """The learned perceptual distance of pairs of pictures, as torchmetrics measures it.

    It is no part of a record, as a replay elsewhere may lack the backbone's weights. Nothing is
    downloaded and nothing in the file is executed.

    Args:
        x: images (B, 3, H, W) or (B, 1, H, W) in [0, 1]; one channel is repeated to three.
        y: images of the same shape.
        weights: torchvision's file of the backbone's ImageNet weights, such as
            ``alexnet-owt-7be5be79.pth``, which torch hub keeps in ``~/.cache/torch/hub``.
        net: ``"alex"``, the one that is compared in publications, ``"vgg"`` or ``"squeeze"``.

    Returns:
        (B,), 0 for equal images; values compare under one ``net`` alone.

    Raises:
        GenrobustError: torchmetrics is not installed; the file is missing, damaged or of another
            network; images are no pictures in [0, 1], of two shapes, or too small.
    """
    if net not in SIDES:
        raise unknown_name("network of lpips", net, SIDES)
    pair = {"x": arguments.images("x", x), "y": arguments.images("y", y)}
    require_same_shape(**pair)
    for name, given in pair.items():
        arguments.require_pixels(name, given)
    if min(x.shape[-2:]) < SIDES[net]:
        raise GenrobustError(
            f"the images are {x.shape[-2]}x{x.shape[-1]}, and lpips by '{net}' takes sides of "
            f"{SIDES[net]} or more; resize them, and say so beside the value"
        )
    network = _network(Path(weights), net).to(x.device)
    a, b = (given.float().expand(-1, 3, -1, -1) for given in pair.values())
    return network(a, b, normalize=True).flatten()


def _network(file: Path, net: str) -> nn.Module:
    try:
        from torchmetrics.functional.image.lpips import _NoTrainLpips
    except ImportError as problem:
        raise GenrobustError(
            "lpips needs torchmetrics; install it with pip install 'genrobust[perceptual]'"
        ) from problem
    state = read_state_dict(file)
    network = _NoTrainLpips(net=net, pnet_rand=True)
    backbone = network.net.state_dict()
    features = [state[name] for name in state if name.startswith("features.")]
    if [t.shape for t in features] != [t.shape for t in backbone.values()]:
        raise GenrobustError(
            f"'{file}' does not hold the backbone '{net}' of lpips; give torchvision's file of it"
        )
    network.net.load_state_dict(dict(zip(backbone, features, strict=True)))
    return network.eval()
