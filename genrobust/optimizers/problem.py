"""What optimizers share: the loss with its gradient, counted, and the best iterate so far."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from genrobust.batch import Context
from genrobust.distance import euclidean
from genrobust.errors import GenrobustError
from genrobust.foreign import Call
from genrobust.objectives.base import Objective
from genrobust.objectives.checked import Checked, checked


@dataclass(frozen=True, eq=False)
class Penalty:
    """weight * ||x_adv - x||_2^power: what the published attacks have in place of a ball.

    Args:
        weight: one for all samples, or one a sample, (b,).
        power: 1 for the length of the change, 2 for its square.

    Example:
        >>> x, x_adv = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.5)
        >>> Penalty(3.0)(x_adv, x), Penalty(3.0, power=2)(x_adv, x)
        (tensor([3.]), tensor([3.]))
    """

    weight: float | Tensor
    power: Literal[1, 2] = 1

    def __call__(self, x_adv: Tensor, x: Tensor) -> Tensor:
        if self.power == 1:
            return self.weight * euclidean(x_adv, x)
        return self.weight * (x_adv - x).flatten(1).square().sum(1)

    def __getitem__(self, index: Tensor) -> Penalty:
        """The penalty of the samples at ``index``."""
        if isinstance(self.weight, Tensor):
            return Penalty(self.weight[index], self.power)
        return self


@dataclass(frozen=True, eq=False)
class Problem:
    """An objective on a batch, of which some samples are still being searched.

    Its loss is the objective plus, where there is one, the penalty.

    Args:
        objective: what to minimise; one from outside is checked at each call.
        context: the samples still searched.
        index: their positions in the whole batch.
        forwards: passes through the model of the whole batch, (B,) int64, written in place.
        backwards: gradients taken, likewise.
        penalty: on the distance of the samples still searched from their sources.

    Example:
        >>> import genrobust
        >>> from genrobust.attacks import Batch, Context
        >>> from genrobust.objectives.latent import LatentDistance
        >>> vae, x = genrobust.load_model("vae"), genrobust.load_images("digits").take([0, 1])
        >>> context = Context(vae, Batch(x, (0, 1), target_x=x.flip(0)))
        >>> problem = Problem.of(LatentDistance(), context)
        >>> loss, gradient = problem.gradient(x)
        >>> loss.shape, gradient.shape, problem.forwards, problem.backwards
        (torch.Size([2]), torch.Size([2, 1, 32, 32]), tensor([1, 1]), tensor([1, 1]))
    """

    objective: Objective
    context: Context
    index: Tensor
    forwards: Tensor
    backwards: Tensor
    penalty: Penalty | None = None

    @staticmethod
    def of(objective: Objective, context: Context, penalty: Penalty | None = None) -> Problem:
        count, device = len(context.batch), context.batch.x.device
        counts = torch.zeros(2, count, dtype=torch.int64, device=device)
        everyone = torch.arange(count, device=device)
        return Problem(objective, context, everyone, counts[0], counts[1], penalty)

    def loss(self, x_adv: Tensor) -> Tensor:
        """The loss of each image, (B,), without a gradient."""
        with torch.no_grad():
            loss, draws = self._loss(x_adv)
        self._count(self.forwards, draws)
        return loss.to(x_adv.dtype)

    def gradient(self, x_adv: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each image, (B,), and its gradient with respect to that image alone.

        Of a model that is declared not to be differentiable the gradient may be 0.

        Raises:
            GenrobustError: no gradient reaches the image of a model that should have one.
        """
        model = self.context.model
        with torch.enable_grad():
            x_adv = x_adv.detach().requires_grad_()
            loss, draws = self._loss(x_adv)
            if loss.requires_grad:
                with Call(model.name, "gradient", x_adv):
                    (gradient,) = torch.autograd.grad(loss.sum(), x_adv)
                if isinstance(self._asked, Checked):
                    self._asked.require_gradient(gradient)
            elif model.differentiable:
                raise GenrobustError(
                    f"no gradient of the objective reaches the image through '{model.name}'; wrap "
                    "it with differentiable=False, or with encode= and decode= that let it through"
                )
            else:
                gradient = torch.zeros_like(x_adv)
        self._count(self.forwards, draws)
        self._count(self.backwards, draws)
        return loss.detach().to(x_adv.dtype), gradient

    def narrow(self, keep: Tensor) -> Problem:
        """The problem of the samples where ``keep``, a mask over the current ones, holds."""
        return replace(
            self,
            context=self.context[keep],
            index=self.index[keep],
            penalty=None if self.penalty is None else self.penalty[keep],
        )

    def penalised(self, penalty: Penalty | None) -> Problem:
        """The same samples and counts under another penalty, or none."""
        return replace(self, penalty=penalty)

    @cached_property
    def _asked(self) -> Objective:
        return checked(self.objective)

    def _count(self, passes: Tensor, more: int) -> None:
        if len(self.index) == len(passes):  # that is, of all: no need to look them up
            passes += more
        else:
            passes[self.index] += more

    def _loss(self, x_adv: Tensor) -> tuple[Tensor, int]:
        """The loss, and how often it was drawn.

        Of a random model it is the mean over its draws (Athalye et al. 2018, EoT). Where two agree
        in every bit, what the objective looks at is not random, and they are enough.
        """
        draws = self.context.model.draws
        drawn = [self._asked(x_adv, self.context) for _ in range(min(draws, 2))]
        if draws > 2 and not torch.equal(drawn[0], drawn[1]):
            drawn += [self._asked(x_adv, self.context) for _ in range(draws - 2)]
        loss = sum(drawn[1:], drawn[0]) / len(drawn)
        if self.penalty is not None:
            loss = loss + self.penalty(x_adv, self.context.batch.x)
        return loss, len(drawn)


class Minimum:
    """The best iterate of each sample of the whole batch; samples not searched have loss inf.

    Args:
        problem: what is searched.
        start: first iterates of the problem's samples.

    Example:
        >>> import genrobust
        >>> from genrobust.attacks import Batch, Context
        >>> from genrobust.objectives.latent import LatentDistance
        >>> vae, x = genrobust.load_model("vae"), genrobust.load_images("digits").take([0, 1])
        >>> context = Context(vae, Batch(x, (0, 1), target_x=x.flip(0)))
        >>> problem = Problem.of(LatentDistance(), context)
        >>> best = Minimum(problem, x)
        >>> best.update(problem.index, x, torch.tensor([3.0, 1.0]))
        >>> best.update(problem.index, x.flip(0), torch.tensor([2.0, 2.0]))
        >>> best.loss, bool((best.x[0] == x[1]).all()), bool((best.x[1] == x[1]).all())
        (tensor([2., 1.]), True, True)
    """

    def __init__(self, problem: Problem, start: Tensor) -> None:
        count = len(problem.forwards)
        self.x = start.new_zeros(count, *start.shape[1:])
        self.x[problem.index] = start
        self.loss = start.new_full((count,), torch.inf)

    def update(self, index: Tensor, x: Tensor, loss: Tensor) -> None:
        """Keep the images at positions ``index`` whose loss is lower than the best so far."""
        better = loss < self.loss[index]
        positions = index[better]
        self.x[positions] = x[better]
        self.loss[positions] = loss[better]

    def replace(self, index: Tensor, x: Tensor, loss: Tensor) -> None:
        """Keep these images whatever their loss, as attacks do that return the last iterate."""
        self.x[index] = x
        self.loss[index] = loss

    def merge(self, other: Minimum) -> None:
        """Keep the better of each sample's two iterates."""
        better = other.loss < self.loss
        self.x[better] = other.x[better]
        self.loss[better] = other.loss[better]
