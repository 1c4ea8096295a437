"""What a family adds to the training loop: a loss, and networks that learn beside the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from genrobust.models.networks import ConvVAE, NetworkSpec
from genrobust.posterior import Gaussian, Posterior

#: A weight or a capacity: a number from 0 up.
Weight = Annotated[float, Field(strict=True, ge=0, le=1e30, allow_inf_nan=False)]
#: A rate or a size: a number above 0.
Positive = Annotated[float, Field(strict=True, gt=0, le=1e30, allow_inf_nan=False)]
#: A momentum: from 0, below 1.
Share = Annotated[float, Field(strict=True, ge=0, lt=1)]
Count = Annotated[int, Field(strict=True, ge=1, le=10**9)]


#: A batch (B, C, H, W) in [0, 1] of a step, from its number, how many images, and its draws.
Sampler = Callable[[int, int, torch.Generator], Tensor]


@dataclass(frozen=True, eq=False)
class Step:
    """One minibatch on its way through the model.

    ``x`` (B, C, H, W) in [0, 1]; ``code`` one draw of ``posterior``; ``image`` its decoding;
    ``draws`` the step's own generator; ``images`` how many the training set has; ``labels`` (B,)
    where the objective needs them.
    """

    network: ConvVAE
    helper: nn.Module | None
    x: Tensor
    posterior: Posterior
    code: Tensor
    image: Tensor
    draws: torch.Generator
    number: int
    images: int
    temperature: float
    labels: Tensor | None = None

    @cached_property
    def bce(self) -> Tensor:
        """Binary cross-entropy in nats, summed over pixels, the mean over images."""
        return bce(self.image, self.x)

    @property
    def gaussian(self) -> Gaussian:
        """The posterior's Gaussian, which every recipe that asks for it has."""
        (part,) = self.posterior.parts
        assert isinstance(part, Gaussian)
        return part

    def draw(self, posterior: Posterior) -> Tensor:
        """A differentiable draw with noise of this step."""
        return posterior.rsample(posterior.draw_noise(self.draws), self.temperature)


class TrainingLoss(BaseModel):
    """What a network is trained to lower: here the reconstruction term and a penalty.

    A family with networks of its own (a discriminator, predictors) makes them in ``helper`` and
    says what they lower in ``helper_loss``: they learn after the model, in every step. A helper
    without parameters keeps what ``settle`` counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Whether it learns from classes.
    needs_labels: ClassVar[bool] = False

    def sampler(self, dataset: str) -> Sampler | None:
        """What draws the batches of an objective that cannot learn from any; None for the others.

        Raises:
            GenrobustError: no such batches can be drawn of the data set.
        """
        return None

    def code(self, posterior: Posterior, draws: torch.Generator, temperature: float) -> Tensor:
        """The differentiable code that is decoded: a draw, unless a family has none."""
        return posterior.rsample(posterior.draw_noise(draws), temperature)

    def __call__(self, posterior: Posterior, step: int) -> Tensor:
        """beta * KL at beta = 1 unless a family says otherwise: nats, the mean over images."""
        return posterior.kl_to_prior().sum(1).mean()

    def loss(self, at: Step) -> Tensor:
        return at.bce + self(at.posterior, at.number)

    def capacities(self, posterior: Posterior, step: int) -> dict[str, float]:
        """What of the KL is wanted at this step, for the log."""
        return {}

    def helper(self, spec: NetworkSpec) -> nn.Module | None:
        return None

    def helper_adam(self) -> dict[str, Any]:
        """The helper's learning rate and moments."""
        return {
            "lr": getattr(self, "helper_rate", 1e-4),
            "betas": (getattr(self, "helper_momentum", 0.9), 0.999),
        }

    def helper_loss(self, at: Step) -> Tensor:
        raise NotImplementedError

    def settle(self, at: Step) -> None:
        """What a step changes by no gradient, after those that do."""

    def unfit(self, spec: NetworkSpec) -> str | None:
        """Why a network cannot be trained so; None where it can."""
        if spec.codebook:
            return "a codebook is learned by the penalty 'vq' alone; set network.codebook=null"
        return None


class WeightedKL(TrainingLoss):
    """beta * KL: below 1, a smaller reconstruction error for a code that carries more."""

    kind: str  # before the weight, in what is shown of a recipe
    beta: Weight = 1.0

    def __call__(self, posterior: Posterior, step: int) -> Tensor:
        return self.beta * super().__call__(posterior, step)


class OfGaussians(TrainingLoss):
    """An objective that reads the density of a code, or takes its latents one by one."""

    def unfit(self, spec: NetworkSpec) -> str | None:
        if spec.categorical or spec.deterministic or spec.codebook or spec.top:
            return (
                f"the penalty '{getattr(self, 'kind', '')}' reads Gaussian latents alone, of one "
                "layer"
            )
        return None


def bce(image: Tensor, x: Tensor) -> Tensor:
    return F.binary_cross_entropy(image, x, reduction="sum") / len(x)


def perceptron(inputs: int, outputs: int, width: int, depth: int) -> nn.Sequential:
    """``depth`` hidden layers of ``width`` with leaky ReLU."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), nn.LeakyReLU(0.2)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def worst_in_ball(
    x: Tensor, distance: Callable[[Tensor], Tensor], eps: float, steps: int, draws: torch.Generator
) -> Tensor:
    """The image of an L-infinity ball that a few signed gradient steps find to be farthest.

    Args:
        x: (B, C, H, W) in [0, 1].
        distance: from images to (B,), higher is worse.
        eps: the ball's radius, of pixels in [0, 1].
        steps: each of ``2.5 * eps / steps``, as Madry et al. 2018 do, from a random start.
        draws: the start's.
    """
    start = torch.rand(x.shape, generator=draws, device=draws.device).to(x) * 2 - 1
    moved = (x + eps * start).clamp(0, 1)
    for _ in range(steps):
        moved.requires_grad_()
        (gradient,) = torch.autograd.grad(distance(moved).sum(), moved)
        moved = moved.detach() + 2.5 * eps / steps * gradient.sign()
        moved = torch.minimum(torch.maximum(moved, x - eps), x + eps).clamp(0, 1)
    return moved.detach()
