"""The latent and the output attack of Gondim-Ribeiro, Tabacof & Valle 2018: a swept penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from genrobust.attacks.sweep import PenaltySweep
from genrobust.models.model import Surrogate
from genrobust.objectives.divergence import LatentDivergence
from genrobust.objectives.output import SquaredOutputError
from genrobust.optimizers import Minimum, Problem, adam, lbfgsb
from genrobust.threat import ThreatModel

LARGEST_NORM = 3.0
LARGEST_ENTRY = 1.0


@dataclass(frozen=True)
class GondimSweep(PenaltySweep):
    """C = 0 and 50 more, by Adam with clipped gradients or by L-BFGS-B.

    The published code penalises the change before it is cut to the box and keeps the change one
    step after that of the best loss; here the penalty is on x_adv - x, and the best is kept. Its
    L-BFGS-B is given clipped gradients too, which are not those of its loss; here it is given
    the loss's own.

    Args:
        points: values of C besides 0, evenly spaced in their logarithm.
        lowest: the smallest but 0.
        highest: the largest.
        steps: of Adam, or iterations of L-BFGS-B at most.
        learning_rate: Adam's, in pixel units.
        optimizer: ``"adam"`` or ``"lbfgsb"``.
    """

    paper = "Gondim-Ribeiro, Tabacof & Valle 2018"
    libraries = ("scipy",)
    tries_zero = True

    steps: int = 3000
    learning_rate: PositiveFloat = 1e-3
    optimizer: Literal["adam", "lbfgsb"] = "adam"

    def minimise(self, problem: Problem, start: Tensor, threat: ThreatModel) -> Minimum:
        if self.optimizer == "lbfgsb":
            return lbfgsb(problem, start, threat, iterations=self.steps, factr=10, history=25)
        return adam(problem, start, threat, self.steps, self.learning_rate, adjust=clipped)


def clipped(gradient: Tensor) -> Tensor:
    """Each sample's gradient cut to length 3, then each entry to [-1, 1]."""
    length = torch.linalg.vector_norm(gradient.flatten(1), dim=1).clamp_min(LARGEST_NORM)
    shorter = gradient * (LARGEST_NORM / length).view(-1, *[1] * (gradient.ndim - 1))
    return shorter.clamp(-LARGEST_ENTRY, LARGEST_ENTRY)


@dataclass(frozen=True)
class GondimLatent(GondimSweep):
    """Minimise KL(q(z | x_adv) || q(z | x_t)) + C * ||x_adv - x||_2^2; settings as GondimSweep.

    Reference:
        Gondim-Ribeiro, Tabacof & Valle 2018, "Adversarial attacks on variational autoencoders",
        the latent attack.
    """

    name = "gondim-latent"

    def objective(self) -> LatentDivergence:
        return LatentDivergence()


@dataclass(frozen=True)
class GondimOutput(GondimSweep):
    """Minimise ||x_t - x_hat(x_adv)||_2^2 + C * ||x_adv - x||_2^2; other settings as GondimSweep.

    The published code reconstructs from draws of the posterior, here from its mean.

    Args:
        surrogate: what stands in for a categorical's argmax while searching.
        temperature: of the softmax surrogate.

    Reference:
        Gondim-Ribeiro, Tabacof & Valle 2018, "Adversarial attacks on variational autoencoders",
        the output attack.
    """

    name = "gondim-output"

    surrogate: Surrogate = "softmax"
    temperature: PositiveFloat = 1.0

    def objective(self) -> SquaredOutputError:
        return SquaredOutputError(self.surrogate, self.temperature)
