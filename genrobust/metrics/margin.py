"""r-robustness: how far an image may be changed until its random reconstruction moves by r.

After Camuto, Willetts, Roberts, Holmes & Rainforth 2021 and Barrett, Camuto, Willetts &
Rainforth 2022. All distances are Euclidean, in pixel units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from genrobust.arguments import real, several, whole, whole_seed
from genrobust.errors import GenrobustError
from genrobust.metrics.checks import require_positive, require_same_shape
from genrobust.metrics.distances import l2
from genrobust.metrics.draws import keyed_draws
from genrobust.metrics.geometry import encoder_jacobian
from genrobust.metrics.latent import gaussian_moments
from genrobust.models.inputs import inputs
from genrobust.models.model import GenerativeModel
from genrobust.posterior import Gaussian

#: (images, radius, restart) -> adversarial images within that L2 radius.
RadiusAttack = Callable[[Tensor, float, int], Tensor]

#: What an attack may exceed its radius by, relative and absolute: float32 rounding.
_SLACK = 1e-4


@torch.no_grad()
def robust_probability(
    model: GenerativeModel,
    x: Tensor,
    x_adv: Tensor,
    r: float,
    *,
    sample_ids: Sequence[int],
    draws: int = 40,
    seed: int = 0,
) -> Tensor:
    r"""The probability that the reconstruction moves by at most r, over draws of the code.

    .. math:: P(\|\hat x(x') - \hat x(x)\|_2 \le r), \qquad
              \hat x(x) = \mathrm{decode}(z),\ z \sim q(z|x)

    Both codes are drawn, independently. A model is r-robust at x to the change x' - x where this
    is above 1/2 (Camuto et al. 2021).

    Args:
        model: the model; its reconstructions are clipped where its deployment clips.
        x: sources, (B, C, H, W) in [0, 1].
        x_adv: their adversarial images, of the same shape.
        r: how far a reconstruction may move, in pixel units; above 0.
        sample_ids: one number a sample, which with ``seed`` keys its draws.
        draws: how many pairs of codes to draw; the published protocol has 40.
        seed: the seed of the draws.

    Returns:
        (B,) in [0, 1], a multiple of 1 / draws, with a standard error of at most
        :math:`1 / (2 \sqrt{\text{draws}})`.

    Raises:
        GenrobustError: shapes differ, r is not above 0, fewer or more ids than samples, no draws.

    Example:
        >>> import genrobust
        >>> class Same(torch.nn.Module):
        ...     input_shape = (1, 1, 2)
        ...     def encode(self, x): return x.flatten(1)
        ...     def decode(self, z): return z.view(-1, 1, 1, 2)
        >>> model, x = genrobust.wrap(Same()), torch.zeros(2, 1, 1, 2)
        >>> x_adv = torch.tensor([0.1, 0.9]).view(2, 1, 1, 1).expand(2, 1, 1, 2)
        >>> robust_probability(model, x, x_adv, 0.5, sample_ids=[0, 1])
        tensor([1., 0.])
    """
    x, x_adv = inputs("x", x, model), inputs("x_adv", x_adv, model)
    require_same_shape(x=x, x_adv=x_adv)
    require_positive(r=r)
    seed = whole_seed(seed)
    clean = keyed_draws(model.encode(x), sample_ids, draws, seed, "margin", "clean")
    moved = keyed_draws(model.encode(x_adv), sample_ids, draws, seed, "margin", "adversarial")
    within = torch.zeros(len(x), device=x.device)
    for code, code_adv in zip(clean, moved, strict=True):
        within += l2(_decode(model, code), _decode(model, code_adv)) <= r
    return within / draws


def robustness_margin(
    model: GenerativeModel,
    x: Tensor,
    attack: RadiusAttack,
    r: float,
    *,
    radii: Sequence[float],
    sample_ids: Sequence[int],
    restarts: int = 1,
    draws: int = 40,
    seed: int = 0,
) -> Tensor:
    r"""The largest change to which an image stays r-robust, as far as an attack can tell.

    .. math:: R^r(x) = \sup\{\rho : P(\|\hat x(x + d) - \hat x(x)\| \le r) > \tfrac12
              \text{ for all } \|d\|_2 \le \rho\}

    The radii are tried from the smallest; a sample falls at the first one at which an attack's
    result leaves :func:`robust_probability` at 1/2 or below, since that also breaks every larger
    ball. (The published search starts from the largest and stops at the first radius whose own
    attacks fail, which a weak attack at a large radius can end too early.) An attack that finds
    too little makes the margin too large: it is an upper bound, up to the grid and the draws.

    Args:
        model: the model.
        x: images, (B, C, H, W) in [0, 1].
        attack: called with (x, radius, restart); returns images within that L2 radius of x.
        r: how far a reconstruction may move, in pixel units; the published protocol has 8.
        radii: candidates, above 0 and increasing, in pixel units.
        sample_ids: one number a sample, which with ``seed`` keys its draws.
        restarts: how often to attack at each radius; the published protocol has 5.
        draws: pairs of codes for each probability.
        seed: the seed of the draws.

    Returns:
        (B,), the last radius of those held: 0 where the smallest already breaks; the largest
        where none does, which then says "at least".

    Raises:
        GenrobustError: the radii do not increase from above 0, there is no restart, the attack
            left its radius, or as :func:`robust_probability`.

    Example:
        >>> import genrobust
        >>> class Same(torch.nn.Module):
        ...     input_shape = (1, 1, 2)
        ...     def encode(self, x): return x.flatten(1)
        ...     def decode(self, z): return z.view(-1, 1, 1, 2)
        >>> model, x = genrobust.wrap(Same()), torch.zeros(1, 1, 1, 2)
        >>> def push(x, radius, restart):
        ...     return x + radius * torch.tensor([1.0, 0.0])
        >>> robustness_margin(model, x, push, 0.5, radii=[0.2, 0.4, 0.6], sample_ids=[0])
        tensor([0.4000])
    """
    x, radii = inputs("x", x, model), several("radii", radii, real, 0.5)
    if not radii or radii[0] <= 0 or any(b <= a for a, b in pairwise(radii)):
        raise GenrobustError(f"the radii are {list(radii)}; they must be above 0 and increasing")
    if whole("restarts", restarts) < 1:
        raise GenrobustError(f"restarts is {restarts}; attack at least once")
    margin = torch.zeros(len(x), device=x.device)
    unbroken = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for radius in radii:
        for restart in range(restarts):
            x_adv = inputs("the attack's x_adv", attack(x, radius, restart), model)
            x_adv = x_adv.detach()
            longest = float(l2(x, x_adv).max())
            if longest > radius * (1 + _SLACK) + _SLACK:
                raise GenrobustError(
                    f"the attack went {longest:g} far at radius {radius:g}; it must project its "
                    "result into the L2 ball"
                )
            found = robust_probability(
                model, x, x_adv, r, sample_ids=sample_ids, draws=draws, seed=seed
            )
            unbroken &= found > 0.5
        if not bool(unbroken.any()):
            break
        margin[unbroken] = radius
    return margin


def first_order_margin(
    model: GenerativeModel,
    x: Tensor,
    r: float,
    *,
    sample_ids: Sequence[int],
    draws: int = 1000,
    seed: int = 0,
) -> Tensor:
    r"""A lower bound on the r-robustness margin that holds to first order (Camuto et al. 2021).

    .. math:: R^r(x) \gtrsim \frac{\min_i \sigma_i(x)\; \Phi^{-1}(p)}{\|J_\mu(x)\|_F}, \qquad
              p = P(\|\hat x(x) - \hat x(x)\| \le r)

    p compares two independent draws for one image and :math:`\Phi` is the standard normal's
    distribution function. The bound is exact, not approximate, where the encoder's mean is linear
    and its standard deviation constant. As the estimate of p over finitely many draws may be 1,
    which no bound follows from, it is cut at draws / (draws + 1).

    Args:
        model: a model with only Gaussian latents.
        x: images, (B, C, H, W) in [0, 1].
        r: how far a reconstruction may move, in pixel units; above 0.
        sample_ids: one number a sample, which with ``seed`` keys its draws.
        draws: pairs of codes for p.
        seed: the seed of the draws.

    Returns:
        (B,), in pixel units: 0 where p is at most 1/2 (the image is not r-robust even unchanged),
        ``inf`` where the encoder ignores the image.

    Raises:
        GenrobustError: a latent is not Gaussian, or as :func:`robust_probability`.

    Example:
        >>> import genrobust
        >>> class Noisy(torch.nn.Module):
        ...     input_shape = (1, 1, 2)
        ...     def encode(self, x): return x.flatten(1), torch.full((len(x), 2), -4.0)
        ...     def decode(self, z): return z.view(-1, 1, 1, 2)
        >>> model = genrobust.wrap(Noisy())
        >>> bound = first_order_margin(model, torch.zeros(1, 1, 1, 2), 0.5, sample_ids=[0])
        >>> bool(0.1 < bound < 0.5)
        True
    """
    x = inputs("x", x, model)
    with torch.no_grad():
        posterior = model.encode(x)
    if not all(isinstance(part, Gaussian) for part in posterior.parts):
        raise GenrobustError(
            "the first-order margin needs a model with only Gaussian latents; for others use "
            "robustness_margin with an attack"
        )
    smallest = gaussian_moments(posterior)[1].amin(1)
    size = torch.linalg.matrix_norm(encoder_jacobian(model, x).double())
    p = robust_probability(model, x, x, r, sample_ids=sample_ids, draws=draws, seed=seed)
    quantile = torch.special.ndtri(p.double().clamp(0.5, draws / (draws + 1)))
    return torch.where(quantile > 0, smallest * quantile / size, torch.zeros_like(size))


def certified_margin(
    sigma_norm: float, r: float, *, decoder: float, mean: float, std: float = 0.0
) -> float:
    r"""The margin that Lipschitz constants guarantee (Barrett et al. 2022).

    With the Lipschitz constants a of the decoder, b of the encoder's mean and c of its standard
    deviation, the largest :math:`\rho` with

    .. math:: (c^2 + b^2) \rho^2 + 4 c \|\sigma(x)\| \rho + 4 \|\sigma(x)\|^2 \le r^2 / (2 a^2):

    Markov's inequality then keeps the reconstructions within r with probability 1/2 or more.

    Args:
        sigma_norm: :math:`\|\sigma(x)\|_2` over the latents at the image, from 0.
        r: how far a reconstruction may move, in pixel units; above 0.
        decoder: a, in pixel units a latent unit; above 0.
        mean: b, in latent units a pixel unit; above 0.
        std: c, likewise; from 0.

    Returns:
        A radius in pixel units; 0 where :math:`\|\sigma(x)\| \ge r / (a \sqrt 8)`, for which the
        inequality holds nowhere.

    Raises:
        GenrobustError: a number is out of its range.

    Example:
        >>> round(certified_margin(0.0, 8.0, decoder=2.0, mean=1.0), 4)
        2.8284
    """
    require_positive(r=r, decoder=decoder, mean=mean)
    if not (0 <= real("sigma_norm", sigma_norm) < math.inf and 0 <= real("std", std) < math.inf):
        raise GenrobustError(
            f"sigma_norm is {sigma_norm} and std {std}; both must be finite numbers from 0 up"
        )
    square = std**2 + mean**2
    linear = 4 * std * sigma_norm
    constant = 4 * sigma_norm**2 - r**2 / (2 * decoder**2)
    if constant >= 0:
        return 0.0
    return -2 * constant / (linear + math.sqrt(linear**2 - 4 * square * constant))


def certified_margin_fixed_std(
    gamma: float, latents: int, r: float, *, decoder: float, mean: float
) -> float:
    r"""The guaranteed margin where every latent has one fixed standard deviation.

    With the Lipschitz constants a of the decoder and b of the encoder's mean, m latents and
    :math:`u = (r / a - b \rho)^2 / (2 \gamma^2)`, the largest :math:`\rho < r / (a b)` with

    .. math:: C_m \frac{u^{m/2} e^{-u/2}}{u - m + 2} \le \tfrac12, \quad u > m - 2, \quad
              C_m = \pi^{-1/2} \exp\bigl(\tfrac12 (m - (m - 1) \ln m)\bigr),

    a bound on the tail of the chi-square distribution (Barrett et al. 2022).

    Args:
        gamma: :math:`\gamma`, the standard deviation in latent units; above 0.
        latents: m, at least 2.
        r: how far a reconstruction may move, in pixel units; above 0.
        decoder: a, in pixel units a latent unit; above 0.
        mean: b, in latent units a pixel unit; above 0.

    Returns:
        A radius in pixel units, from 0 (no guarantee) to r / (a b).

    Raises:
        GenrobustError: a number is out of its range.

    Example:
        >>> round(certified_margin_fixed_std(0.1, 10, 8.0, decoder=2.0, mean=1.0), 4)
        3.5223
    """
    require_positive(gamma=gamma, r=r, decoder=decoder, mean=mean)
    if whole("latents", latents) < 2:
        raise GenrobustError(f"latents is {latents}; the bound holds from 2 up")
    low, high = float(latents - 2), 4.0 * latents + 40  # the bound falls from inf to almost 0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if _tail(middle, latents) <= math.log(0.5) else (middle, high)
    return max(0.0, (r / decoder - gamma * math.sqrt(2 * high)) / mean)


def _tail(u: float, m: int) -> float:
    """The logarithm of the bound on P(chi-square with m degrees of freedom >= u), u > m - 2."""
    if u <= m - 2:
        return math.inf
    constant = 0.5 * (m - (m - 1) * math.log(m)) - 0.5 * math.log(math.pi)
    return constant + 0.5 * m * math.log(u) - 0.5 * u - math.log(u - m + 2)


def _decode(model: GenerativeModel, code: Tensor) -> Tensor:
    image = model.decode(code)
    return image.clamp(0, 1) if model.clamp else image
