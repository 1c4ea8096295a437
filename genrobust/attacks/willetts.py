"""The latent attacks and the output attack of Willetts et al. 2021: a swept unsquared penalty."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveFloat
from torch import Tensor

from genrobust.attacks.sweep import PenaltySweep
from genrobust.metrics.likelihood import Likelihood
from genrobust.objectives.divergence import LatentDivergence, LatentWasserstein
from genrobust.objectives.elbo import TargetELBO
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


@dataclass(frozen=True)
class WillettsKL(WillettsSweep):
    """Minimise KL(q(z | x_adv) || q(z | x_t)) + lambda * ||x_adv - x||_2; see WillettsSweep.

    The divergences of a posterior's parts are summed, as the paper sums those of its layers.
    Autoencoders without a posterior get the squared distance of codes.

    Reference:
        Willetts, Camuto, Rainforth, Roberts & Holmes 2021, "Improving VAEs' robustness to
        adversarial attack", the latent attack.
    """

    name = "willetts-kl"

    def objective(self) -> LatentDivergence:
        return LatentDivergence()


@dataclass(frozen=True)
class WillettsW2(WillettsSweep):
    """Minimise W2(q(z | x_adv), q(z | x_t)) + lambda * ||x_adv - x||_2; see WillettsSweep.

    W2 is the 2-Wasserstein distance of the whole posteriors, not squared.

    Reference:
        Willetts, Camuto, Rainforth, Roberts & Holmes 2021, "Improving VAEs' robustness to
        adversarial attack", the latent attack with the Wasserstein distance.
    """

    name = "willetts-w2"

    def objective(self) -> LatentWasserstein:
        return LatentWasserstein()


@dataclass(frozen=True)
class WillettsOutput(WillettsSweep):
    """Maximise the target's ELBO under q(z | x_adv), less lambda * ||x_adv - x||_2.

    Minimised is KL(q(z | x_adv) || p) - E log p(x_t | z) + the penalty; see WillettsSweep for the
    search and its settings. The paper's expectation is over draws of z; the default here is the
    mean code, which L-BFGS-B can follow.

    Args:
        likelihood: ``"bernoulli"`` or ``"gaussian"``.
        std: the Gaussian's standard deviation, in pixel units.
        draws: over which the expectation is taken, fixed for each sample; 0 is the mean code.

    Reference:
        Willetts, Camuto, Rainforth, Roberts & Holmes 2021, "Improving VAEs' robustness to
        adversarial attack", the output attack.
    """

    name = "willetts-output"

    likelihood: Likelihood = "bernoulli"
    std: PositiveFloat = 1.0
    draws: int = 0

    def objective(self) -> TargetELBO:
        return TargetELBO(self.likelihood, self.std, self.draws)
