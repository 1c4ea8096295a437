"""Kos' classifier attack: mislead a classifier of latent codes."""

from __future__ import annotations

from dataclasses import dataclass

from genrobust.attacks.base import LABELS
from genrobust.attacks.kos import KosAttack, check_classes, reference_vectors
from genrobust.attacks.probe import trained_probe
from genrobust.batch import Context, Goal
from genrobust.objectives.classifier import aim
from genrobust.objectives.kos import ProbeLoss
from genrobust.optimizers import Minimum, Problem
from genrobust.threat import ThreatModel


@dataclass(frozen=True)
class KosClassifier(KosAttack):
    """Minimise lambda * 1/2 ||x_adv - x||_2^2 + loss(classifier(h(x_adv)), label); see KosAttack.

    h is the vector of means and, where there are categorical latents, of logits. The classifier
    is the paper's, trained on h of the labelled training images. The loss is the cross-entropy to
    the target's class, untargeted -log(1 - p_y).

    Args:
        epochs: that the classifier is trained for.
        hidden: units in each of its two layers.

    Reference:
        Kos, Fischer & Song 2018, "Adversarial examples for generative models", the classifier
        attack.
    """

    name = "kos-classifier"
    needs_references = True

    epochs: int = 100
    hidden: int = 512

    def needs(self, goal: Goal) -> tuple[str, ...]:
        return ("references", LABELS[goal])

    def expected_passes(self) -> int:
        return self.steps

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        batch = context.batch
        assert batch.references is not None, "attacks check that they have references"
        check_classes(context, aim(batch)[0])

        probe = trained_probe(
            reference_vectors(context),
            batch.references[1],
            epochs=self.epochs,
            hidden=self.hidden,
            seed=batch.seed,
        )
        return self.minimise(ProbeLoss(probe), context, threat)
