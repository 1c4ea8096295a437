"""What the three attacks of Kos, Fischer & Song 2018 share: the search, and targets of a class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from genrobust.attacks.base import Attack
from genrobust.batch import Context
from genrobust.errors import GenrobustError
from genrobust.objectives.base import Objective
from genrobust.optimizers import Minimum, Penalty, Problem, adam
from genrobust.threat import ThreatModel

#: What a targeted attack aims at: the mean over the target class's training images, or the
#: target image.
Aim = Literal["mean", "image"]

#: Training images that go through the model at once.
CHUNK = 256


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


@torch.no_grad()
def of_references(context: Context, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """What ``compute`` makes of the training images, in chunks."""
    assert context.batch.references is not None, "attacks check that they have references"
    images = context.batch.references[0].to(context.batch.x)
    return torch.cat([compute(chunk) for chunk in images.split(CHUNK)])


def reference_vectors(context: Context) -> Tensor:
    """The latent vectors of the training images, (N, n)."""
    return of_references(context, lambda images: context.model.encode(images).vector())


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
