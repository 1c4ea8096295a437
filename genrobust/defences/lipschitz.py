"""The margin that a network of known slope certifies for each image (Barrett et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.defences.base import bare_network
from genrobust.errors import GenrobustError
from genrobust.metrics.margin import certified_margin
from genrobust.models.inputs import inputs
from genrobust.models.lipschitz import slope
from genrobust.models.model import GenerativeModel


@dataclass(frozen=True)
class LipschitzConstants:
    """Of the decoder, the encoder's mean and its standard deviation, as Barrett et al. 2022 name
    them a, b and c.

    Example:
        >>> LipschitzConstants(decoder=1.25, mean=5.0, std=1.25).mean
        5.0
    """

    decoder: float
    mean: float
    std: float


def lipschitz_constants(model: GenerativeModel) -> LipschitzConstants:
    """The constants of a ``lipschitz-vae``, from its weights as they are, in L2.

    Args:
        model: of that family, as :func:`genrobust.load_model` gives it: with pixels in [0, 1], and
            no function of one's own or defence round it.

    Raises:
        GenrobustError: another model, of which no such constants are known.

    Example:
        >>> import genrobust
        >>> from genrobust.models.networks import NetworkSpec, initialised
        >>> spec = NetworkSpec(input_shape=(1, 8, 8), layers="dense", lipschitz=2.0)
        >>> found = lipschitz_constants(genrobust.wrap(initialised(spec, 0)))
        >>> round(found.decoder, 3), round(found.mean, 3), round(found.std, 3)
        (0.5, 2.0, 0.5)
    """
    network = bare_network(model)
    if network is None or not network.spec.lipschitz:
        raise GenrobustError(
            f"no Lipschitz constants of '{model.name}' are known; give a model of the family "
            "'lipschitz-vae' as genrobust.load_model gives it"
        )
    encoder, decoder = slope(network.encoder), slope(network.decoder)
    return LipschitzConstants(decoder / 4, encoder, encoder / 4)  # a sigmoid's slope is at most 1/4


@torch.no_grad()
def lipschitz_margin(model: GenerativeModel, x: Tensor, r: float) -> Tensor:
    """The L2 radius in which the random reconstruction stays within r with probability 1/2 or more.

    :func:`genrobust.metrics.certified_margin` with the constants of the network (Barrett et al.
    2022).

    Args:
        model: as :func:`lipschitz_constants` takes it.
        x: images, (B, C, H, W) in [0, 1].
        r: how far a reconstruction may move, in pixel units; above 0.

    Returns:
        (B,) float64 in pixel units; 0 where the posterior alone is too wide.

    Raises:
        GenrobustError: another model, or r is not above 0.

    Example:
        >>> import genrobust
        >>> from genrobust.models.networks import NetworkSpec, initialised
        >>> spec = NetworkSpec(input_shape=(1, 8, 8), layers="dense", lipschitz=2.0)
        >>> model = genrobust.wrap(initialised(spec, 0))
        >>> margin = lipschitz_margin(model, torch.rand(2, 1, 8, 8), 8.0)
        >>> margin.shape, bool((margin > 0).all())
        (torch.Size([2]), True)
    """
    constants = lipschitz_constants(model)
    (part,) = model.encode(inputs("x", x, model)).parts
    widths = (part.tensors()[1].double() / 2).exp().norm(dim=1).tolist()
    return torch.tensor(
        [
            certified_margin(
                width, r, decoder=constants.decoder, mean=constants.mean, std=constants.std
            )
            for width in widths
        ],
        dtype=torch.float64,
    )
