"""Kos' L_VAE attack: the VAE's own loss on a class's mean reconstruction, or on the target."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveFloat
from torch import Tensor

from genrobust.attacks.kos import Aim, KosAttack, class_means, of_references
from genrobust.batch import Context, Goal
from genrobust.objectives.kos import VAELoss
from genrobust.optimizers import Minimum, Problem
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class KosLVAE(KosAttack):
    """Minimise lambda * 1/2 ||x_adv - x||_2^2 + KL(q(z | x_adv) || p) + cross-entropy.

    The search is that of KosAttack.

    The cross-entropy is that of the target and the reconstruction of x_adv from its mean code,
    summed over pixels.

    Args:
        aim: ``"mean"``: the target is the mean over the training images of its class;
            ``"image"``: the target image.
        reconstruct_target: the images that make the target are reconstructed first.
        temperature: of the softmax in place of a categorical's argmax.

    Reference:
        Kos, Fischer & Song 2018, "Adversarial examples for generative models", the L_VAE attack.
    """

    name = "kos-lvae"
    goals = ("targeted",)
    needs_references = True

    aim: Aim = "mean"
    reconstruct_target: bool = True
    temperature: PositiveFloat = 1.0

    def needs(self, goal: Goal) -> tuple[str, ...]:
        return ("references", "target_labels") if self.aim == "mean" else ("target_x",)

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        images = None
        if self.aim == "mean":

            def target(images: Tensor) -> Tensor:
                return context.model.reconstruct(images) if self.reconstruct_target else images

            images = class_means(context, of_references(context, target)).clamp(0, 1)
        objective = VAELoss(images, self.reconstruct_target, self.temperature)
        return self.minimise(objective, context, threat)
