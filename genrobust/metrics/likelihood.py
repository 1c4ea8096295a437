"""How likely the target image is under the attacked image's code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from genrobust.arguments import real, whole, whole_seed
from genrobust.errors import GenrobustError, unknown_name
from genrobust.metrics.checks import require_positive, require_same_shape
from genrobust.metrics.draws import keyed_draws
from genrobust.models.inputs import inputs
from genrobust.models.model import GenerativeModel

Likelihood = Literal["bernoulli", "gaussian"]


@torch.no_grad()
def target_log_likelihood(
    model: GenerativeModel,
    x_adv: Tensor,
    x_target: Tensor,
    likelihood: Likelihood = "bernoulli",
    *,
    std: float = 1.0,
    draws: int = 0,
    sample_ids: Sequence[int] | None = None,
    seed: int = 0,
) -> Tensor:
    r"""log p(x_t | z) with z from the attacked image's posterior: how well the attack worked.

    With m = decode(z), clipped to [0, 1], it is the sum over values of

    .. math::
        \text{Bernoulli: } x_t \log m + (1 - x_t) \log(1 - m), \qquad
        \text{Gaussian: } -\tfrac12 (x_t - m)^2 / s^2 - \log s - \tfrac12 \log 2\pi.

    Willetts, Camuto, Rainforth, Roberts & Holmes 2021 plot its negative against the strength of
    the attack. For grey pixels the Bernoulli form is the usual cross-entropy, not a density; its
    logarithms stop at -100.

    Args:
        model: the attacked model.
        x_adv: adversarial images, (B, C, H, W) in [0, 1].
        x_target: the images that they imitate, of the same shape.
        likelihood: ``"bernoulli"`` or ``"gaussian"``.
        std: s, the Gaussian's standard deviation in pixel units.
        draws: 0 takes the deployed code, the posterior's mode; else the mean of
            :math:`\log p(x_t | z)` over so many draws of z.
        sample_ids: one number a sample, which with ``seed`` keys its draws; needed for draws.
        seed: the seed of the draws.

    Returns:
        (B,) float64, in nats, summed over values; lower is more robust.

    Raises:
        GenrobustError: shapes differ, an unknown likelihood, a target outside [0, 1] under
            Bernoulli, ``std`` not above 0, or draws without sample ids.

    Example:
        >>> import genrobust
        >>> class Grey(torch.nn.Module):
        ...     input_shape = (1, 2, 2)
        ...     def encode(self, x): return x.flatten(1)
        ...     def decode(self, z): return 0.5 + z.view(-1, 1, 2, 2) / 2
        >>> model = genrobust.wrap(Grey())
        >>> target_log_likelihood(model, torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
        tensor([-2.7726], dtype=torch.float64)
    """
    x_adv = inputs("x_adv", x_adv, model)
    x_target = inputs("x_target", x_target, model)
    require_same_shape(x_adv=x_adv, x_target=x_target)
    require_positive(std=std)
    if likelihood not in ("bernoulli", "gaussian"):
        raise unknown_name("likelihood", likelihood, ("bernoulli", "gaussian"))
    if likelihood == "bernoulli" and not bool(((x_target >= 0) & (x_target <= 1)).all()):
        raise GenrobustError(
            "the target leaves [0, 1], where a Bernoulli likelihood is defined; rescale it or use "
            "likelihood='gaussian'"
        )
    posterior = model.encode(x_adv)
    if whole("draws", draws) == 0:
        codes = [posterior.mode()]
    elif sample_ids is None:
        raise GenrobustError("draws need sample_ids to key them; pass range(len(x_adv)), say")
    else:
        codes = list(
            keyed_draws(posterior, sample_ids, draws, whole_seed(seed), "target likelihood")
        )
    scores = [
        _log_likelihood(x_target, model.decode(z), likelihood, real("std", std)) for z in codes
    ]
    return torch.stack(scores).mean(0)


def _log_likelihood(x: Tensor, image: Tensor, likelihood: Likelihood, std: float) -> Tensor:
    mean, x = image.double().clamp(0, 1), x.double()
    if likelihood == "bernoulli":
        return -F.binary_cross_entropy(mean, x, reduction="none").flatten(1).sum(1)
    values = -0.5 * ((x - mean) / std).square() - math.log(std) - 0.5 * math.log(2 * math.pi)
    return values.flatten(1).sum(1)
