"""L-BFGS with bounds (Byrd et al. 1995), by scipy: one sample at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrobust.optimizers.problem import Minimum, Problem
from genrobust.threat import ThreatModel

#: scipy's factr is in units of the precision of float64.
UNIT = float(np.finfo(np.float64).eps)


def lbfgsb(
    problem: Problem,
    start: Tensor,
    threat: ThreatModel,
    *,
    iterations: int = 15_000,
    factr: float = 1e7,
    history: int = 10,
    pgtol: float = 1e-5,
) -> Minimum:
    """Minimise inside the threat model.

    The box, and an L-infinity ball with it, become bounds. Under another finite ball the loss
    of a point is that of its projection, and so is the gradient, so that the search stays smooth.

    Args:
        problem: the loss, and the samples to search.
        start: their first iterates, (B, C, H, W).
        threat: the ball and box around the sources.
        iterations: at most so many a sample; the line search takes one or more gradients each.
        factr: stop when an iteration gains less than factr * 2.2e-16 of the loss.
        history: corrections kept, scipy's m.
        pgtol: stop when no entry of the projected gradient is larger than this.

    Returns:
        The best point of each sample of all that were evaluated.

    Example:
        >>> import genrobust
        >>> from genrobust.attacks import Batch, Context
        >>> from genrobust.objectives.latent import LatentDistance
        >>> vae, x = genrobust.load_model("vae"), genrobust.load_images("digits").take([0, 1])
        >>> context = Context(vae, Batch(x, (0, 1), target_x=x.flip(0)))
        >>> problem = Problem.of(LatentDistance(), context)
        >>> threat = genrobust.ThreatModel("linf", 0.1)
        >>> found = lbfgsb(problem, x, threat, iterations=5)
        >>> threat.check(found.x, x, "it")  # raises nothing: all are in ball and box
        >>> bool((found.loss < problem.loss(x)).all())
        True
    """
    source = problem.context.batch.x
    start = threat.project(start, source)
    minimum = Minimum(problem, start)
    options = {
        **{"maxiter": iterations, "maxfun": 15_000, "maxcor": history},
        **{"ftol": factr * UNIT, "gtol": pgtol},
    }
    for position in range(len(start)):
        only = torch.zeros(len(start), dtype=torch.bool, device=start.device)
        only[position] = True
        _search_one(problem.narrow(only), start[position][None], threat, options, minimum)
    return minimum


def _search_one(
    problem: Problem,
    start: Tensor,
    threat: ThreatModel,
    options: dict[str, Any],
    minimum: Minimum,
) -> None:
    import scipy.optimize  # here: it takes a second, and few searches need it

    source = problem.context.batch.x
    round_ball = not threat.norm.is_box and math.isfinite(threat.eps)
    reach = math.inf if round_ball else threat.eps
    low = (source.double() - reach).clamp_min(0)
    high = (source.double() + reach).clamp_max(1)

    def evaluate(flat: np.ndarray[Any, Any]) -> tuple[float, np.ndarray[Any, Any]]:
        point = torch.tensor(flat).view(start.shape).to(start)
        with torch.enable_grad():
            point.requires_grad_(round_ball)
            inside = threat.project(point, source)
        loss, gradient = problem.gradient(inside.detach())
        minimum.update(problem.index, inside.detach(), loss)
        if round_ball:
            (gradient,) = torch.autograd.grad(inside, point, gradient)
        return float(loss), gradient.double().cpu().numpy().ravel()

    scipy.optimize.minimize(
        evaluate,
        start.double().cpu().numpy().ravel(),
        method="L-BFGS-B",
        jac=True,
        bounds=np.stack([bound.cpu().numpy().ravel() for bound in (low, high)], 1),
        options=options,
    )
