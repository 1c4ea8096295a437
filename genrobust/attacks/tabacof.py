"""Tabacof's latent attack: the posterior of the target under a swept penalty, by L-BFGS-B."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from genrobust.attacks.sweep import PenaltySweep
from genrobust.objectives.divergence import LatentDivergence
from genrobust.optimizers import Minimum, Problem, lbfgsb
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class Tabacof(PenaltySweep):
    """Minimise KL(q(z | x_adv) || q(z | x_t)) + C * ||x_adv - x||_2^2 in the box for 100 C.

    Autoencoders without a posterior get the squared distance of codes.

    Args:
        points: values of C, evenly spaced in their logarithm.
        lowest: the smallest.
        highest: the largest.
        iterations: of L-BFGS-B for each C, at most.
        as_published: the divergence as the published code has it, with standard deviations where
            variances belong and without its factors 1/2; see
            :class:`~genrobust.objectives.divergence.LatentDivergence`.

    Reference:
        Tabacof, Tavares & Valle 2016, "Adversarial images for variational autoencoders".
    """

    name = "tabacof"
    paper = "Tabacof, Tavares & Valle 2016"
    libraries = ("scipy",)

    points: int = 100
    iterations: int = 15_000
    as_published: bool = False

    def objective(self) -> LatentDivergence:
        return LatentDivergence(self.as_published)

    def minimise(self, problem: Problem, start: Tensor, threat: ThreatModel) -> Minimum:
        return lbfgsb(problem, start, threat, iterations=self.iterations, factr=10, history=25)
