"""ALMA and GRILL of arXiv 2505.03646: one change for the whole batch, by Adam."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from genrobust.attacks.base import Attack
from genrobust.batch import Context
from genrobust.objectives.draws import FreshNoise
from genrobust.objectives.universal import DamageName, UniversalDamage
from genrobust.optimizers import Minimum, Problem
from genrobust.seeding import generator
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class UniversalAttack(Attack):
    """Find one change d that does most damage to all images of the batch, by Adam on d.

    x_adv is x + d cut to the box; d starts uniformly in the ball. The d of least mean loss is
    returned. A result depends on the whole batch, the start on the seed alone.

    Args:
        passes: over the batch; each takes one step along the mean gradient. The published code
            steps after each minibatch of its test set.
        learning_rate: Adam's, in pixel units.
        as_published: codes are drawn anew at each evaluation, for clean and attacked images; d is
            scaled to length eps and the whole attacked batch is renormalised by its minimum and
            maximum to [0, 1] in place of a cut; the last d is returned. What leaves the ball so
            is projected at the end. An evaluation then counts as two passes forward.
    """

    paper = "arXiv 2505.03646"
    goals = ("untargeted",)
    norms = ("linf",)
    needs_ball = True
    couples_samples = True

    passes: int = 300
    learning_rate: PositiveFloat = 1e-4
    as_published: bool = False

    @abstractmethod
    def damage_of(self) -> DamageName:
        """What to maximise."""

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        batch = context.batch
        noise = FreshNoise(batch.seed, self.name) if self.as_published else None
        problem = Problem.of(UniversalDamage(self.damage_of(), noise), context)
        best = Minimum(problem, batch.x)
        change = _start(context, threat)
        optimizer = torch.optim.Adam([change], lr=self.learning_rate)
        for _ in range(self.passes):
            with torch.enable_grad():
                change.requires_grad_()
                x_adv = self._attacked(change, batch.x, threat)
            loss, gradient = problem.gradient(x_adv.detach())
            self._offer(best, x_adv.detach(), loss)
            (change.grad,) = torch.autograd.grad(x_adv, change, gradient / len(batch))
            change.requires_grad_(False)
            optimizer.step()
            if not self.as_published:
                change.clamp_(-threat.eps, threat.eps)
        x_adv = threat.project(self._attacked(change, batch.x, threat), batch.x)
        self._offer(best, x_adv, problem.loss(x_adv))
        if self.as_published:
            problem.forwards.mul_(2)
        return problem, best

    def _attacked(self, change: Tensor, x: Tensor, threat: ThreatModel) -> Tensor:
        if not self.as_published:
            return threat.project(x + change, x)
        moved = x + change * (threat.eps / change.abs().max().clamp_min(1e-20))
        low, high = moved.min(), moved.max()
        return (moved - low) / (high - low).clamp_min(1e-12)

    def _offer(self, best: Minimum, x_adv: Tensor, loss: Tensor) -> None:
        """Keep a whole batch: one change for all, not the best for each."""
        if self.as_published or loss.mean() < best.loss.mean():
            best.x, best.loss = x_adv, loss


def _start(context: Context, threat: ThreatModel) -> Tensor:
    x = context.batch.x
    uniform = torch.rand(x.shape[1:], generator=generator("universal", context.batch.seed))
    return (threat.eps * (2 * uniform - 1)).to(x)


@dataclass(frozen=True)
class Alma(UniversalAttack):
    """One change for all images that moves codes and reconstructions; see UniversalAttack.

    The published eps on colour images is 0.04 to 0.09. A sample's damage is its own, where the
    published code multiplies what is averaged over a minibatch.

    Args:
        damage: ``"lma"``, ``"oa"``, ``"la-l2"``, ``"la-wass"``, ``"la-skl"`` or ``"la-cos"``; see
            :class:`~genrobust.objectives.universal.UniversalDamage`.

    Reference:
        "Gradient signal restoration in ill-conditioned layers", arXiv 2505.03646: the latent,
        output and product attacks.
    """

    name = "alma"

    damage: Literal["la-l2", "la-wass", "la-skl", "la-cos", "oa", "lma"] = "lma"

    def damage_of(self) -> DamageName:
        return self.damage


@dataclass(frozen=True)
class Grill(UniversalAttack):
    """One change for all images that moves every layer and the output; see UniversalAttack.

    The damage is [sum over layers l of w_l * MSE(output of l)] * MSE(reconstruction), with w_l
    in proportion to K - kappa_l: kappa_l is the condition number of the layer's weight as a
    matrix (1 for layers without one), K their sum. Layers are the innermost modules that encoder
    and decoder call. A sample's damage is its own.

    Reference:
        "Gradient signal restoration in ill-conditioned layers", arXiv 2505.03646, as released.
    """

    name = "grill"

    def damage_of(self) -> DamageName:
        return "grill"
