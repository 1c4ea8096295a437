"""The error that a network's boxes certify for each image (Xu et al. 2025)."""

from __future__ import annotations

import torch
from torch import Tensor

from genrobust.arguments import real
from genrobust.defences.base import bare_network
from genrobust.errors import GenrobustError
from genrobust.metrics.checks import require_positive
from genrobust.models.inputs import inputs
from genrobust.models.intervals import code_box, support, through
from genrobust.models.model import GenerativeModel
from genrobust.models.networks import NetworkSpec


@torch.no_grad()
def certified_error(
    model: GenerativeModel, x: Tensor, eps: float, confidence: float | None = None
) -> Tensor:
    r"""The most squared error to x that any change of the image within eps can lead to.

    .. math:: \max_{\|x' - x\|_\infty \le \varepsilon} \|\hat x(x') - x\|_2^2

    is bounded by sending boxes through encoder and decoder (Gowal et al. 2018), up to rounding.
    Of a model that was not trained for it, as ``civet-vae`` is, it is nearly that of any image.

    Args:
        model: of a family with one layer of Gaussian latents and plain layers, such as
            ``civet-vae`` or ``vae``, as :func:`genrobust.load_model` gives it.
        x: images, (B, C, H, W) in [0, 1].
        eps: the L-inf radius, in pixel units; above 0.
        confidence: bound the reconstruction of a drawn code, which holds with this probability over
            the draw (Xu et al. 2025, support sets); default that of the mean, which holds always.

    Returns:
        (B,) float64, summed over pixels; at most the number of pixels.

    Raises:
        GenrobustError: another model, or a number out of its range.

    Example:
        >>> import genrobust
        >>> from genrobust.models.networks import NetworkSpec, initialised
        >>> model = genrobust.wrap(initialised(NetworkSpec(), 0))
        >>> x = torch.rand(2, 1, 32, 32)
        >>> always, drawn = certified_error(model, x, 0.01), certified_error(model, x, 0.01, 0.95)
        >>> bool((always <= drawn).all()), drawn.shape
        (True, torch.Size([2]))
    """
    network = bare_network(model)
    if network is None or not _is_plain(network.spec):
        raise GenrobustError(
            f"no bounds of '{model.name}' are known; give a model with one layer of Gaussian "
            "latents, such as 'civet-vae', as genrobust.load_model gives it"
        )
    require_positive(eps=eps)
    if confidence is not None and not 0 < real("confidence", confidence) < 1:
        raise GenrobustError(
            f"confidence is {confidence}; give a probability between 0 and 1, such as 0.95"
        )
    x = inputs("x", x, model)
    means, deviation = code_box(network, x, eps)
    codes = means if confidence is None else support(means, deviation, confidence)
    low, high = through(network.decoder, codes)
    return torch.maximum((low - x).square(), (high - x).square()).flatten(1).double().sum(1)


def _is_plain(spec: NetworkSpec) -> bool:
    other = ("categorical", "deterministic", "codebook", "top", "lipschitz")
    return not any(getattr(spec, name) for name in other)
