"""Center smoothing: of noisy reconstructions the one amid most (Kumar & Goldstein 2021).

The bound here is for the center of a finite sample itself, by exact binomial tails: two balls that
each hold more than half of one sample share a point of it. The paper's, for the same construction,
bounds the ball's true mass by Hoeffding's inequality, and abstains where it cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.stats import beta, binom, norm
from torch import Tensor

from genrobust.arguments import real, whole, whole_seed
from genrobust.defences.base import check_certificate, defended, keyed_noise, noise
from genrobust.errors import GenrobustError
from genrobust.metrics.checks import require_positive
from genrobust.models.inputs import inputs, require_model
from genrobust.models.model import GenerativeModel


def center_smoothed(
    model: GenerativeModel, std: float, *, samples: int = 32, draws: int = 4
) -> GenerativeModel:
    """The model that gives, of its reconstructions of noisy inputs, the one amid most of them.

    That is the one whose ball round more than half of them is smallest, in L2. Attacks
    differentiate through the noise and not the choice, over as many draws.

    Args:
        model: any that :func:`genrobust.wrap` gives.
        std: of the noise, in pixels of [0, 1]; above 0.
        samples: noisy reconstructions for each image.
        draws: how many such centers make a score.

    Raises:
        GenrobustError: a number out of its range; a model that is random already.

    Example:
        >>> import genrobust
        >>> model = center_smoothed(genrobust.load_model("vae"), 0.1, samples=8)
        >>> model.reconstruct(genrobust.load_images("digits").take([0, 1])).shape
        torch.Size([2, 1, 32, 32])
    """
    require_model(model)
    require_positive(std=std)
    count = _samples(samples)

    def deploy(x: Tensor) -> Tensor:
        copies = noise(x.repeat_interleave(count, 0), std)
        return _center(model.reconstruct(copies).unflatten(0, (len(x), count)))

    return defended(
        model,
        f"center of {count} smoothed by {std:g}",
        draws,
        encoder=lambda x: model.encoder(noise(x, std)),
        deploy=deploy,
    )


@dataclass(frozen=True, eq=False)
class CenterBound:
    """What :func:`center_bound` finds: ``center`` (B, C, H, W), ``bound`` (B,) in pixel units.

    Example:
        >>> CenterBound(torch.zeros(1, 1, 2, 2), torch.tensor([3.0])).bound.shape
        torch.Size([1])
    """

    center: Tensor
    bound: Tensor


@torch.no_grad()
def center_bound(
    model: GenerativeModel,
    x: Tensor,
    std: float,
    eps: float,
    *,
    sample_ids: Sequence[int],
    samples: int = 32,
    draws: int = 1000,
    alpha: float = 0.01,
    seed: int = 0,
    batch_size: int = 200,
) -> CenterBound:
    r"""How far the center-smoothed reconstruction can move when the input does, in L2.

    With q so large that a binomial of ``samples`` tries at q is above half of them with probability
    :math:`1 - \alpha / 2`, a ball of radius R round the center at x that holds
    :math:`\Phi(\Phi^{-1}(q) + \varepsilon / \sigma)` of the reconstructions' mass there holds q of
    it at any x' (Cohen et al. 2019), so that the center at x' lies within 3 R (Kumar & Goldstein
    2021, with the factor of a center chosen among the samples). R is the order statistic of
    ``draws`` distances that is above that quantile with probability :math:`1 - \alpha / 2`.

    Args:
        model: the one that is smoothed, without its defence.
        x: images, (B, C, H, W) in [0, 1].
        std: :math:`\sigma`, of the noise, in pixel units; above 0.
        eps: :math:`\varepsilon`, the L2 radius of the input's change, in pixel units; above 0.
        sample_ids: one number an image, which with ``seed`` keys its noise.
        samples: as of :func:`center_smoothed`.
        draws: for R.
        alpha: the chance that a center at an x' fixed beforehand lies beyond, between 0 and 1.
        seed: of the noise.
        batch_size: how many noisy images go through the model at once.

    Returns:
        The centers at x and the bounds; ``inf`` where so few draws tell nothing.

    Raises:
        GenrobustError: a number out of its range, more or fewer ids than images, a random model.

    Example:
        >>> import genrobust
        >>> model = genrobust.load_model("vae")
        >>> x = genrobust.load_images("digits").take([0])
        >>> found = center_bound(model, x, 0.2, 0.05, sample_ids=[0], draws=200)
        >>> bool(found.bound > 0), found.center.shape
        (True, torch.Size([1, 1, 32, 32]))
    """
    x = inputs("x", x, model)
    count = _samples(samples)
    check_certificate(x, std, sample_ids, alpha, draws=draws, batch_size=batch_size)
    require_positive(eps=eps)
    seed = whole_seed(seed)
    if model.draws > 1:
        raise GenrobustError(
            f"'{model.name}' draws random numbers; give the model without its defence"
        )
    most = count // 2 + 1
    held = float(beta.ppf(1 - real("alpha", alpha) / 2, most, count - most + 1))
    mass = float(norm.cdf(norm.ppf(held) + eps / std))
    place = int(binom.ppf(1 - alpha / 2, draws, mass))  # from 0: that many may be nearer
    centers, bounds = [], []
    for image, key in zip(x, sample_ids, strict=True):

        def seen(n: int, what: str, image: Tensor = image, key: int = key) -> Tensor:
            copies = keyed_noise(image, std, n, batch_size, "center", what, seed, int(key))
            return torch.cat([model.reconstruct(batch) for batch in copies])

        center = _center(seen(count, "samples")[None])
        apart = (seen(draws, "draws") - center).flatten(1).double().norm(dim=1).sort().values
        centers.append(center)
        bounds.append(3 * float(apart[place]) if place < draws else float("inf"))
    return CenterBound(torch.cat(centers), torch.tensor(bounds))


def _samples(samples: int) -> int:
    if whole("samples", samples, 32) < 3:
        raise GenrobustError(f"samples is {samples}; a center is amid 3 or more, such as 32")
    return samples


def _center(images: Tensor) -> Tensor:
    """Of n images each, (B, n, C, H, W), the one with the smallest ball round most of them."""
    rows = images.flatten(2).double()
    apart = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    radius = apart.sort(-1).values[:, :, images.shape[1] // 2]  # its own place is the first
    return images[torch.arange(len(images), device=images.device), radius.argmin(1)]
