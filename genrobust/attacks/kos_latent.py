"""Kos' latent attack: the latent vector of a class's mean, or of the target."""

from __future__ import annotations

from dataclasses import dataclass

from genrobust.attacks.kos import Aim, KosAttack, class_means, reference_vectors
from genrobust.batch import Context, Goal
from genrobust.objectives.kos import LatentMatch
from genrobust.optimizers import Minimum, Problem
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class KosLatent(KosAttack):
    """Minimise lambda * 1/2 ||x_adv - x||_2^2 + 1/2 ||h(x_adv) - h_t||_2^2; see KosAttack.

    h is the vector of means and, where there are categorical latents, of logits. Untargeted it
    leaves the source's own h.

    Args:
        aim: ``"mean"``: h_t is the mean h of the training images of the target's class;
            ``"image"``: the target image's h.

    Reference:
        Kos, Fischer & Song 2018, "Adversarial examples for generative models", the latent attack.
    """

    name = "kos-latent"
    needs_references = True

    aim: Aim = "mean"

    def needs(self, goal: Goal) -> tuple[str, ...]:
        if goal == "untargeted":
            return ()
        return ("references", "target_labels") if self.aim == "mean" else ("target_x",)

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        means = None
        if context.batch.targeted and self.aim == "mean":
            means = class_means(context, reference_vectors(context))
        return self.minimise(LatentMatch(means), context, threat)
