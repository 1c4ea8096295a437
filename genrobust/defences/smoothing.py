"""Randomised smoothing: noise on the input, a vote over it, a certified radius (Cohen et al. 2019).

A judge that looks at the reconstructions of noisy inputs is a classifier of inputs, whatever the
model is; what most of the noise shows it cannot change fast with the input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy.stats import beta, norm
from torch import Tensor

from genrobust import arguments
from genrobust.defences.base import check_certificate, defended, keyed_noise, noise
from genrobust.errors import GenrobustError
from genrobust.metrics.checks import require_positive
from genrobust.models.inputs import require_model
from genrobust.models.model import GenerativeModel

#: What a certificate says of an image whose class it cannot tell.
ABSTAINS = -1


def smoothed(model: GenerativeModel, std: float, *, draws: int = 16) -> GenerativeModel:
    """The model behind Gaussian noise on its input, scored by what most draws show.

    Attacks differentiate through the noise, over as many draws. The input is not clipped after the
    noise is added: the certificate is about noise that is not.

    Args:
        model: any that :func:`genrobust.wrap` gives.
        std: of the noise, in pixels of [0, 1]; above 0.
        draws: how many make a score; the vote that :func:`certified_radius` is about is of all.

    Raises:
        GenrobustError: a number out of its range; a model that is random already.

    Example:
        >>> import genrobust
        >>> model = smoothed(genrobust.load_model("vae"), 0.25)
        >>> x = genrobust.load_images("digits").take([0])
        >>> bool((model.reconstruct(x) == model.reconstruct(x)).all()), model.draws
        (False, 16)
    """
    require_model(model)
    require_positive(std=std)
    deploy = model.deploy
    return defended(
        model,
        f"input smoothed by {std:g}",
        draws,
        encoder=lambda x: model.encoder(noise(x, std)),
        deploy=None if deploy is None else lambda x: deploy(noise(x, std)),
    )


@dataclass(frozen=True, eq=False)
class CertifiedRadius:
    """What :func:`certified_radius` finds: ``labels`` (B,), -1 where it abstains, ``radius`` (B,).

    Example:
        >>> CertifiedRadius(torch.tensor([3]), torch.tensor([0.2])).radius.shape
        torch.Size([1])
    """

    labels: Tensor
    radius: Tensor


@torch.no_grad()
def certified_radius(
    classify: Callable[[Tensor], Tensor],
    x: Tensor,
    std: float,
    *,
    sample_ids: Sequence[int],
    selection: int = 100,
    draws: int = 1000,
    alpha: float = 0.001,
    seed: int = 0,
    batch_size: int = 200,
) -> CertifiedRadius:
    r"""The L2 radius in which no change of the input changes the vote over noise.

    .. math:: \sigma\, \Phi^{-1}(\underline{p})

    with :math:`\underline p` the lower Clopper-Pearson bound on the share of the class that
    ``selection`` draws show most, from ``draws`` others (Cohen et al. 2019, algorithm CERTIFY).
    It holds for each image with probability 1 - alpha, for the vote over all noise; a vote over few
    draws can differ from that.

    Args:
        classify: images (n, C, H, W), noise and all, to classes (n,): of an undefended model
            ``lambda x: judge.labels(model.reconstruct(x))``, of a deep VIB its own classes.
        x: images, (B, C, H, W) in [0, 1].
        std: :math:`\sigma`, of the noise, in pixel units; above 0.
        sample_ids: one number an image, which with ``seed`` keys its noise.
        selection: draws that choose the class.
        draws: draws that bound its share.
        alpha: the chance of a radius that is too large, between 0 and 1.
        seed: of the noise.
        batch_size: how many noisy images are classified at once.

    Returns:
        Labels and radii in pixel units; -1 and 0 where the bound is 1/2 or below.

    Raises:
        GenrobustError: a number out of its range, more or fewer ids than images, or what classify
            gives is not one class an image.

    Example:
        >>> half = lambda x: (x.mean((1, 2, 3)) > 0.5).long()
        >>> x = torch.full((1, 1, 2, 2), 0.8)  # 0.3 * sqrt(4) from the border
        >>> found = certified_radius(half, x, 0.5, sample_ids=[0])
        >>> found.labels, bool(0.4 < found.radius < 0.6)
        (tensor([1]), True)
    """
    x = arguments.images("x", x)
    check_certificate(
        x, std, sample_ids, alpha, selection=selection, draws=draws, batch_size=batch_size
    )
    seed = arguments.whole_seed(seed)
    labels, radii = [], []
    for image, key in zip(x, sample_ids, strict=True):

        def votes(count: int, what: str, image: Tensor = image, key: int = key) -> Tensor:
            noisy = keyed_noise(image, std, count, batch_size, "certificate", what, seed, int(key))
            return torch.cat([_classes(classify(batch), batch) for batch in noisy])

        top = int(votes(selection, "selection").mode().values)
        agree = int((votes(draws, "estimation") == top).sum())
        low = float(beta.ppf(alpha, agree, draws - agree + 1)) if agree else 0.0
        told = low > 0.5 and top != ABSTAINS
        labels.append(top if told else ABSTAINS)
        radii.append(std * float(norm.ppf(low)) if told else 0.0)
    return CertifiedRadius(torch.tensor(labels), torch.tensor(radii))


def _classes(given: object, images: Tensor) -> Tensor:
    """What a classifier gives of a batch, if it is a class for each image."""
    found = arguments.classes("what classify gives", given)
    if found.shape != images.shape[:1]:
        raise GenrobustError(
            f"classify gives {tuple(found.shape)} for {len(images)} images; let it give a class "
            "for each, such as lambda x: logits(x).argmax(1)"
        )
    return found
