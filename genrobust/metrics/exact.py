"""Robust accuracy from each source's own smallest perturbation: exact at every radius.

A source that is not eligible has distance 0: it has fallen before any attack. One for which no
perturbation was found has distance infinity. A source stands at a radius below its distance.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genrobust.arguments import floats, real, several
from genrobust.errors import GenrobustError
from genrobust.metrics.checks import require_positive


def exact_accuracy(distance: Tensor, eps: Sequence[float]) -> Tensor:
    r"""Robust accuracy at each radius, a step function of it.

    .. math:: R(\varepsilon) = \frac{1}{B} \#\{i : d_i > \varepsilon\}

    Args:
        distance: smallest perturbations d, (..., B), in the units of ``eps``.
        eps: radii from 0 up.

    Returns:
        Shares in [0, 1], (..., E).

    Raises:
        GenrobustError: no source; a distance or a radius is negative or NaN.

    Example:
        >>> exact_accuracy(torch.tensor([0.0, 0.25, 0.5, torch.inf]), [0.0, 0.25, 0.3])
        tensor([0.7500, 0.5000, 0.5000], dtype=torch.float64)
    """
    distance = _distances(distance)
    given = several("eps", eps, real, 0.1)
    if not all(e >= 0 for e in given):
        raise GenrobustError(f"the radii are {list(given)}; they must be numbers from 0 up")
    radii = distance.new_tensor(given)  # in the distances' precision
    return torch.stack([(distance > e).double().mean(-1) for e in radii], -1)


def exact_area(distance: Tensor, radius: float) -> Tensor:
    r"""The area under :func:`exact_accuracy` up to a radius, as a share of the range.

    .. math:: \frac{1}{R} \int_0^R R(\varepsilon)\, d\varepsilon
        = \frac{1}{B} \sum_i \frac{\min(d_i, R)}{R}

    Args:
        distance: smallest perturbations d, (..., B).
        radius: R, above 0.

    Returns:
        Numbers in [0, 1], (...): 0 falls at once, 1 stands at every radius.

    Raises:
        GenrobustError: no source; a distance is negative or NaN; the radius is not above 0.

    Example:
        >>> exact_area(torch.tensor([0.0, 0.25, 1.0, torch.inf]), 0.5).item()
        0.625
    """
    distance = _distances(distance)
    require_positive(radius=radius)
    return (distance.double().clamp_max(radius) / radius).mean(-1)


def exact_eps50(distance: Tensor) -> Tensor:
    r"""The smallest radius at which half of the eligible sources, or more, have fallen.

    The lower median of the distances above 0.

    Args:
        distance: smallest perturbations, (..., B); 0 for sources that are not eligible.

    Returns:
        Radii, (...): infinity where fewer than half were found, 0 where no source is eligible.

    Raises:
        GenrobustError: no source; a distance is negative or NaN.

    Example:
        >>> exact_eps50(torch.tensor([0.0, 0.5, 0.25, torch.inf])).item()
        0.5
    """
    distance = _distances(distance)
    ascending = distance.double().sort(-1).values
    fallen = (distance <= 0).sum(-1)
    half = (distance.shape[-1] - fallen + 1) // 2
    position = (fallen + half - 1).clamp_min(0)
    return ascending.gather(-1, position[..., None])[..., 0]


def _distances(given: Tensor) -> Tensor:
    distance = floats("distance", given)
    if distance.ndim < 1 or not distance.shape[-1]:
        raise GenrobustError("there are no distances; give one a source")
    if not bool((distance >= 0).all()):
        raise GenrobustError(
            "a distance is negative or NaN; give 0 for sources that are not eligible and inf for "
            "those without a perturbation"
        )
    return distance
