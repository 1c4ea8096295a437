"""The attacks of Kos, Fischer & Song 2018: by a classifier of codes, the VAE's loss, codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from genrobust.attacks.base import LABELS, Attack
from genrobust.attacks.probe import trained_probe
from genrobust.batch import CHUNK, Context, Goal
from genrobust.errors import GenrobustError
from genrobust.objectives.base import Objective
from genrobust.objectives.classifier import aim
from genrobust.objectives.kos import LatentMatch, ProbeLoss, VAELoss
from genrobust.optimizers import Minimum, Penalty, Problem, adam
from genrobust.threat import ThreatModel

#: What a targeted attack aims at: the mean over the target class's training images, or the
#: target image.
Aim = Literal["mean", "image"]


@dataclass(frozen=True)
class KosAttack(Attack):
    """Minimise distance_weight * 1/2 ||x_adv - x||_2^2 + an objective, from a grey image.

    x_adv = (tanh(w) + 1) / 2, searched by Adam from w = 0. Each sample has its own loss; the
    published code sums the distance over a batch. The defaults are those that its authors give
    for their largest model.

    Args:
        distance_weight: lambda.
        steps: of Adam.
        learning_rate: Adam's, in units of w.
        as_published: return the last iterate in place of the best.
    """

    paper = "Kos, Fischer & Song 2018"
    norms = ("any",)

    distance_weight: NonNegativeFloat = 0.75
    steps: int = 1000
    learning_rate: PositiveFloat = 0.1
    as_published: bool = False

    def minimise(
        self, objective: Objective, context: Context, threat: ThreatModel
    ) -> tuple[Problem, Minimum]:
        """Run the search that all three have."""
        problem = Problem.of(objective, context, Penalty(self.distance_weight / 2, 2))
        return problem, adam(
            problem,
            torch.full_like(context.batch.x, 0.5),
            threat,
            self.steps,
            self.learning_rate,
            in_tanh=True,
            last=self.as_published,
        )


def class_means(context: Context, values: Tensor) -> Tensor:
    """The mean of the training images' values in each class, (classes, ...).

    Raises:
        GenrobustError: a target's class has no training image.
    """
    batch = context.batch
    assert batch.references is not None, "attacks check that they have references"
    assert batch.target_labels is not None, "attacks check that they have target labels"
    check_classes(context, batch.target_labels)
    labels = batch.references[1].to(values.device)
    counts = torch.bincount(labels).clamp_min(1)
    sums = values.new_zeros(len(counts), *values.shape[1:]).index_add_(0, labels, values)
    return sums / counts.view(-1, *[1] * (values.ndim - 1)).to(values)


def check_classes(context: Context, labels: Tensor) -> None:
    """Assert that each of the labels has a training image.

    Raises:
        GenrobustError: one has none.
    """
    assert context.batch.references is not None, "attacks check that they have references"
    known = set(context.batch.references[1].tolist())
    missing = sorted(set(labels.tolist()) - known)
    if missing:
        raise GenrobustError(
            f"references hold no image of class {missing[0]}, only of {sorted(known)}; add some"
        )


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
            context.reference_codes(),
            batch.references[1],
            epochs=self.epochs,
            hidden=self.hidden,
            seed=batch.seed,
        )
        return self.minimise(ProbeLoss(probe), context, threat)


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
        mean = None
        if self.aim == "mean":
            assert context.batch.references is not None, "attacks check that they have references"
            images = context.batch.references[0].to(context.batch.x)
            if self.reconstruct_target:
                with torch.no_grad():
                    chunks = images.split(CHUNK)
                    images = torch.cat([context.model.reconstruct(chunk) for chunk in chunks])
            mean = class_means(context, images).clamp(0, 1)
        objective = VAELoss(mean, self.reconstruct_target, self.temperature)
        return self.minimise(objective, context, threat)


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
            means = class_means(context, context.reference_codes())
        return self.minimise(LatentMatch(means), context, threat)
