"""Attacks that sweep the weight of a distance, and the curve that a sweep draws."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from genrobust.attacks.base import Attack
from genrobust.batch import Batch, Context
from genrobust.distance import euclidean
from genrobust.errors import GenrobustError
from genrobust.models.model import GenerativeModel
from genrobust.objectives.base import Objective
from genrobust.optimizers import Minimum, Penalty, Problem
from genrobust.seeding import noise_like
from genrobust.threat import ThreatModel

#: The published start: uniform noise of at most this, in pixel units.
START_NOISE = 1e-8


@dataclass(frozen=True, eq=False)
class Sweep:
    """What was found at each of W weights for each of B sources.

    ``genrobust.metrics.distortion_curves`` measures the curves of ``x_adv``.

    Args:
        weights: C, rising, (W,).
        x_adv: adversarial images, (W, B, C, H, W).
        loss: the objective without the penalty, (W, B).
    """

    weights: Tensor
    x_adv: Tensor
    loss: Tensor


@dataclass(frozen=True)
class PenaltySweep(Attack):
    """Minimise an objective + C * ||x_adv - x||_2^2 for a row of C; return the best C's image.

    Some attacks penalise ||x_adv - x||_2, not squared.

    Inside a ball the best C is the one of lowest objective. Without a ball it is the one that
    Tabacof et al. 2016 show: the last before the reconstruction is no longer nearer to the target
    than to the source, or the one of lowest objective if it is so at no C. The result's loss is
    the objective without the penalty. All C of all samples are searched as one batch.

    Args:
        points: values of C, evenly spaced in their logarithm.
        lowest: the smallest.
        highest: the largest.
    """

    goals = ("targeted",)
    norms = ("any",)
    #: Whether C = 0 is tried before the others.
    tries_zero: ClassVar[bool] = False
    #: 2 for the squared length of the change, 1 for the length.
    power: ClassVar[Literal[1, 2]] = 2

    points: int = 50
    lowest: PositiveFloat = 2.0**-20
    highest: PositiveFloat = 2.0**20

    def __post_init__(self) -> None:
        """Refuse what would fall instead of rise.

        Raises:
            GenrobustError: ``lowest`` is above ``highest``.
        """
        if self.lowest > self.highest:
            raise GenrobustError(
                f"the attack '{self.name}' got lowest={self.lowest:g}, which is above "
                f"highest={self.highest:g}; give the smaller one as lowest"
            )

    @abstractmethod
    def objective(self) -> Objective:
        """What the penalty is added to."""

    @abstractmethod
    def minimise(self, problem: Problem, start: Tensor, threat: ThreatModel) -> Minimum:
        """Search the samples of a problem that has its penalty."""

    def weights(self) -> Tensor:
        """The values of C, rising, (W,)."""
        ends = (math.log2(self.lowest), math.log2(self.highest))
        spaced = torch.logspace(*ends, self.points, base=2, dtype=torch.float64).float()
        return torch.cat([torch.zeros(1), spaced]) if self.tries_zero else spaced

    def sweep(
        self,
        model: GenerativeModel,
        batch: Batch,
        threat: ThreatModel = ThreatModel("l2", math.inf),  # noqa: B008 (it is frozen)
    ) -> Sweep:
        """What every C gives; published without a ball.

        Raises:
            GenrobustError: the attack cannot do what is asked.

        Example:
            >>> import genrobust
            >>> from genrobust.attacks import make_attack
            >>> model, x = genrobust.load_model("vae"), genrobust.load_images("digits").take([0, 1])
            >>> attack = make_attack("gondim-latent", {"points": 3, "steps": 2})
            >>> attack.sweep(model, Batch(x, (0, 1), target_x=x.flip(0))).x_adv.shape
            torch.Size([4, 2, 1, 32, 32])
        """
        self.refuse_impossible(batch, threat)
        return self._sweep(Context(model, batch), threat)[1]

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        problem, sweep = self._sweep(context, threat)
        best = sweep.loss.argmin(0)
        if math.isinf(threat.eps):
            held = self._nearer_to_target(context, sweep).long().cumprod(0).sum(0)
            best = torch.where(held > 0, held - 1, best)
            problem.forwards.add_(len(sweep.weights))
        minimum = Minimum(problem, sweep.x_adv[best, problem.index])
        minimum.loss = sweep.loss[best, problem.index]
        return problem, minimum

    def _sweep(self, context: Context, threat: ThreatModel) -> tuple[Problem, Sweep]:
        batch = context.batch
        count, weights = len(batch), self.weights().to(batch.x)
        grid = (len(weights), count)
        tiles = torch.arange(count, device=batch.x.device).repeat(len(weights))
        wide = Problem.of(self.objective(), context[tiles])
        penalty = Penalty(weights.repeat_interleave(count), self.power)
        found = self.minimise(wide.penalised(penalty), self._start(batch)[tiles], threat).x
        loss = wide.loss(found).view(grid)
        problem = Problem.of(self.objective(), context)
        problem.forwards.copy_(wide.forwards.view(grid).sum(0))
        problem.backwards.copy_(wide.backwards.view(grid).sum(0))
        return problem, Sweep(weights, found.view(*grid, *batch.x.shape[1:]), loss)

    @torch.no_grad()
    def _nearer_to_target(self, context: Context, sweep: Sweep) -> Tensor:
        """Whether what the deployed path gives is nearer to the target than to the source."""
        batch = context.batch
        assert batch.target_x is not None, "attacks check that they have a target"
        found = [context.model.reconstruct(images) for images in sweep.x_adv]
        pairs = [(euclidean(image, batch.target_x), euclidean(image, batch.x)) for image in found]
        return torch.stack([to_target < to_source for to_target, to_source in pairs])

    def _start(self, batch: Batch) -> Tensor:
        noise = noise_like(batch.x, batch.sample_ids, "sweep", batch.seed)
        return batch.x + START_NOISE * (2 * noise - 1)
