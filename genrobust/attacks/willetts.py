"""What the three attacks of Willetts et al. 2021 share: the sweep of an unsquared penalty."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from genrobust.attacks.sweep import PenaltySweep
from genrobust.optimizers import Minimum, Problem, lbfgsb
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class WillettsSweep(PenaltySweep):
    """An objective + lambda * ||x_adv - x||_2 in the box for 50 lambda from 2^-20 to 2^20.

    The paper does not name its optimizer; L-BFGS-B is that of the latent attack that its authors
    and Camuto et al. 2021 use.

    Args:
        points: values of lambda, evenly spaced in their logarithm.
        lowest: the smallest.
        highest: the largest.
        iterations: of L-BFGS-B for each lambda, at most.
    """

    paper = "Willetts et al. 2021"
    libraries = ("scipy",)
    power = 1

    iterations: int = 15_000

    def minimise(self, problem: Problem, start: Tensor, threat: ThreatModel) -> Minimum:
        return lbfgsb(problem, start, threat, iterations=self.iterations, factr=10, history=25)
