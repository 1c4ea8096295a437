"""Attack through a stand-in made of finite differences, where gradients cannot be trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from genrobust.attacks.base import Attack
from genrobust.attacks.differences import LOOK, MOST, agreement, jacobian
from genrobust.attacks.search import BestOf
from genrobust.attacks.settings import Share
from genrobust.batch import Context
from genrobust.objectives.classifier import aim, judge_logits, judge_margin, margin
from genrobust.optimizers import Minimum, Problem, apgd
from genrobust.posterior import Posterior
from genrobust.threat import ThreatModel

#: Codes of more numbers are not fitted: a Jacobian has so many images a source.
LARGEST_CODE = 256
#: The longest difference, per pixel, and the shortest.
LONGEST, SHORTEST = 0.05, 3e-3
#: Looks, each under other noise, that must all disagree: a fit takes thousands of passes, and a
#: single look meets a kink of an honest model now and then.
LOOKS = 2
#: Parts of the way to what the stand-in says that are tried.
PARTS = (1.0, 0.5, 0.25)


@dataclass(frozen=True)
class StandIn(Attack):
    """Fit what cannot be differentiated by finite differences, and attack the fit.

    Where gradients agree with differences along a few directions a source is left as it is: honest
    models pay for no more than that look. Else the posterior around the best image so far is taken
    as linear in the image, with the Jacobian that differences give, decoder and judge as they are,
    and APGD searches there; then once more with the judge's logits on the deployed reconstruction
    as linear. What is found is tried on the deployed path, and the next fit is around the best.

    Args:
        steps: gradients per fit.
        rounds: fits of each kind, with differences half as long each time.
        blocks: the most blocks of pixels whose slopes are told apart; a fit takes twice as many
            passes, or up to four times.
        agree: the cosine below which gradients are not trusted, above 0 and 1 at most.
        confidence: how far the judge's margin must fall below 0, in logits, before a sample is
            done.

    Reference:
        genrobust; differences in place of gradients are those of Chen et al. 2017, "ZOO", here
        along Hadamard directions, of the whole code at once.
    """

    name = "stand-in"
    paper = "genrobust"
    norms = ("any",)
    needs_ball = True
    needs_judge = True

    steps: int = 50
    rounds: int = 2
    blocks: int = MOST
    agree: Share = 0.8
    confidence: NonNegativeFloat = 4.0

    def expected_passes(self) -> int:
        return LOOKS * LOOK[0]  # models whose gradients are right pay for no more

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        best = BestOf(context, self.confidence)
        if context.model.draws > 1:  # differences of draws tell of the draws
            return best.problem, best.minimum
        doubted = best.unbroken()
        for grain in range(LOOKS):
            doubted = self._doubted(best, doubted, grain)
        small = sum(t[0].numel() for t in context.source_posterior.tensors()) <= LARGEST_CODE
        for fit in (_posterior, _logits) if small else (_logits,):
            for round in range(self.rounds):
                unbroken = doubted[torch.isin(doubted, best.unbroken())]
                if len(unbroken):
                    self._improve(best, unbroken, threat, fit, round)
        return best.problem, best.minimum

    def _doubted(self, best: BestOf, positions: Tensor, grain: int) -> Tensor:
        """Those of the positions where gradients and differences disagree, under the noise of
        this look."""
        if not len(positions):
            return positions
        part = best.context[positions]
        part = replace(part, batch=replace(part.batch, seed=part.batch.seed + grain))
        best.problem.forwards[positions] += LOOK[0]
        best.problem.backwards[positions] += LOOK[1]
        return positions[~(torch.stack(agreement(part)).amin(0) >= self.agree)]

    def _improve(
        self, best: BestOf, positions: Tensor, threat: ThreatModel, fit: Fit, round: int
    ) -> None:
        part, start = best.context[positions], best.minimum.x[positions]
        reach = threat.eps / threat.norm.reach(start[0].numel())
        step = max(min(reach, LONGEST) / 2**round, SHORTEST)
        fitted, passes = fit(part, start, step, self.blocks)
        places = {sample: i for i, sample in enumerate(part.batch.sample_ids)}

        def objective(x_adv: Tensor, context: Context) -> Tensor:
            index = torch.tensor([places[i] for i in context.batch.sample_ids], device=x_adv.device)
            return fitted(x_adv, index, context)

        problem = Problem.of(objective, part)
        found = apgd(problem, start, threat, self.steps)
        best.problem.forwards[positions] += problem.forwards + passes
        best.problem.backwards[positions] += problem.backwards
        for share in PARTS:
            best.offer(positions, threat.project(start + share * (found.x - start), part.batch.x))


#: The judge's margin at images, given which sources they are of.
Fitted = Callable[[Tensor, Tensor, Context], Tensor]
#: Fits around images with differences of a length and so many blocks of pixels; also gives how many
#: passes that took, a source.
Fit = Callable[[Context, Tensor, float, int], tuple[Fitted, int]]


def _linear(
    function: Callable[[Tensor], Tensor], start: Tensor, step: float, most: int
) -> tuple[Callable[[Tensor, Tensor], Tensor], int]:
    """A function of images with values (B, F) as linear around images."""
    slope, passes = jacobian(function, start, step, most)
    with torch.no_grad():
        there = function(start)

    def at(x: Tensor, index: Tensor) -> Tensor:
        moved = torch.einsum("bfchw,bchw->bf", slope[index], x - start[index])
        return there[index] + moved

    return at, passes + 1


def _posterior(context: Context, start: Tensor, step: float, most: int) -> tuple[Fitted, int]:
    """With all tensors of the posterior as linear."""
    model, like = context.model, context.source_posterior

    def tensors(x: Tensor) -> Tensor:
        return torch.cat([t.flatten(1) for t in model.encode(x).tensors()], 1)

    at, passes = _linear(tensors, start, step, most)

    def fitted(x: Tensor, index: Tensor, context: Context) -> Tensor:
        code = _like(like[index], at(x, index)).relaxed()
        return judge_margin(model.decode(code), context)

    return fitted, passes


def _like(posterior: Posterior, values: Tensor) -> Posterior:
    """The posterior whose tensors hold the values, (B, F), in their order."""
    sizes = [t[0].numel() for t in posterior.tensors()]
    pieces = iter(values.split(sizes, 1))
    return posterior.map(lambda tensor: next(pieces).reshape_as(tensor))


def _logits(context: Context, start: Tensor, step: float, most: int) -> tuple[Fitted, int]:
    """With the judge's logits on the deployed path as linear."""

    def logits(x: Tensor) -> Tensor:
        return judge_logits(context.model.reconstruct(x), context)

    at, passes = _linear(logits, start, step, most)

    def fitted(x: Tensor, index: Tensor, context: Context) -> Tensor:
        labels, sign = aim(context.batch)
        return -sign * margin(at(x, index), labels)

    return fitted, passes
