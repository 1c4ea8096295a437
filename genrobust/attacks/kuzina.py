"""Kuzina's attack of 2022: posteriors together or apart by gradient descent with restarts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from genrobust.attacks.base import LABELS, Attack
from genrobust.batch import Context, Goal
from genrobust.metrics.latent import fit_probe
from genrobust.objectives.base import Objective
from genrobust.objectives.kuzina import PosteriorMatch, ProbeCrossEntropy
from genrobust.optimizers import Minimum, Problem, sgd
from genrobust.seeding import noise_like
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class Kuzina(Attack):
    """Bring q(z | x_adv) to the target's posterior, or untargeted away from the source's own.

    Gradient descent from x + N(0, start_noise^2) whose rate is halved on plateaus; pixels stay
    between the source's darkest and brightest. The paper's eps is 0.1 or 0.2.

    Args:
        objective: ``"skl"``, ``"kl-forward"``, ``"kl-reverse"`` or ``"means"``, as in
            :class:`~genrobust.objectives.kuzina.PosteriorMatch`; or ``"clf"``, the cross-entropy
            of a linear probe fitted to the means of the labelled training images.
        steps: of each restart, at most; default 500 targeted, 50 untargeted.
        restarts: random starts, the best kept; default 1 targeted, 10 untargeted.
        learning_rate: the first, in pixel units a unit of the gradient.
        patience: steps without gain before the rate is halved.
        smallest: a rate below this ends a sample's run; 0: none does.
        start_noise: standard deviation, in pixel units, above 0: untargeted, no gradient leads
            away from the source itself.
        as_published: each restart gives its last iterate in place of its best. The published code's
            other departure (reconstructions from drawn codes) is in how it scores.

    Reference:
        Kuzina, Welling & Tomczak 2022, "Alleviating adversarial attacks on variational
        autoencoders with MCMC", its attacks without MCMC.
    """

    name = "kuzina"
    paper = "Kuzina, Welling & Tomczak 2022"
    libraries = ("scipy", "sklearn")  # for its probe
    norms = ("linf",)

    objective: Literal["skl", "kl-forward", "kl-reverse", "means", "clf"] = "skl"
    steps: int | None = None
    restarts: int | None = None
    learning_rate: PositiveFloat = 1.0
    patience: int = 20
    smallest: NonNegativeFloat = 1e-6
    start_noise: PositiveFloat = 0.2
    as_published: bool = False

    def needs(self, goal: Goal) -> tuple[str, ...]:
        if self.objective == "clf":
            return ("references", LABELS[goal])
        return ("target_x",) if goal == "targeted" else ()

    def expected_passes(self) -> int:
        steps, restarts = self._budget("untargeted")
        return steps * restarts

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        batch = context.batch
        steps, restarts = self._budget(batch.goal)
        problem = Problem.of(self._objective(context), context)
        best = Minimum(problem, batch.x)
        for restart in range(restarts):
            found = sgd(
                problem,
                self._start(context, restart),
                threat,
                steps,
                self.learning_rate,
                patience=self.patience,
                smallest=self.smallest,
                in_range=True,
                last=self.as_published,
            )
            best.merge(found)
        return problem, best

    def _budget(self, goal: Goal) -> tuple[int, int]:
        steps, restarts = (500, 1) if goal == "targeted" else (50, 10)
        return (
            steps if self.steps is None else self.steps,
            restarts if self.restarts is None else self.restarts,
        )

    def _objective(self, context: Context) -> Objective:
        if self.objective != "clf":
            return PosteriorMatch(self.objective)
        assert context.batch.references is not None, "attacks check that they have references"
        labels = context.batch.references[1]
        return ProbeCrossEntropy(fit_probe(context.reference_codes(), labels))

    def _start(self, context: Context, restart: int) -> Tensor:
        batch, key = context.batch, ("kuzina start", context.batch.seed, restart)
        noise = noise_like(batch.x, batch.sample_ids, *key, draw=torch.randn)
        return batch.x + self.start_noise * noise
