"""The three objectives of Kos, Fischer & Song 2018.

A class's targets are tables with one row a class, looked up by the batch's target labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat
from torch import Tensor, nn

from genrobust.batch import Context
from genrobust.objectives.classifier import aim
from genrobust.posterior import Gaussian, Part, Posterior, wide

#: Means and log-variances are cut to this in the prior's divergence.
LARGEST = 10.0
#: Reconstructions keep this far from 0 and 1 in the cross-entropy.
SMALLEST = 1e-6


@dataclass(frozen=True, eq=False)
class ProbeLoss:
    """A classifier on the latent vector: cross-entropy to the target's class.

    Untargeted it is -log(1 - p_y), as published.

    Args:
        probe: latent vectors (B, n), means and logits, to class logits (B, classes).
    """

    probe: nn.Module

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        logits = self.probe(context.model.encode(x_adv).vector())
        labels, sign = aim(context.batch)
        if sign > 0:
            return F.cross_entropy(logits, labels, reduction="none")
        own = F.one_hot(labels, logits.shape[1]).bool()
        return logits.logsumexp(1) - logits.masked_fill(own, -torch.inf).logsumexp(1)


@dataclass(frozen=True, eq=False)
class VAELoss:
    """The VAE's own loss with another image to reconstruct: KL(q(z | x_adv) || p) + cross-entropy.

    The cross-entropy is the Bernoulli one of the target and the reconstruction, summed over
    pixels; means and log-variances are cut to [-10, 10] in the divergence. Targeted only.

    Args:
        class_images: (classes, C, H, W) in [0, 1]; without it the target is one a sample.
        reconstructed: where the target is one a sample: its reconstruction, not the image.
        temperature: of a categorical part's softmax, which stands in for its argmax.
    """

    goals: ClassVar[tuple[str, ...]] = ("targeted",)

    class_images: Tensor | None = None
    reconstructed: bool = True
    temperature: PositiveFloat = 1.0

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        posterior = context.model.encode(x_adv)
        image = context.model.decode(posterior.relaxed(self.temperature))
        image = wide(image).clamp(SMALLEST, 1 - SMALLEST)
        error = F.binary_cross_entropy(image, wide(self._target(context)), reduction="none")
        prior = Posterior(tuple(_cut(part) for part in posterior.parts)).kl_to_prior()
        return prior.sum(1) + error.flatten(1).sum(1)

    def _target(self, context: Context) -> Tensor:
        if self.class_images is not None:
            assert context.batch.target_labels is not None, "attacks check for target labels"
            return self.class_images[context.batch.target_labels]
        if self.reconstructed:
            return context.target_reconstruction.clamp(0, 1)
        return context.target_x


@dataclass(frozen=True, eq=False)
class LatentMatch:
    """1/2 ||h(x_adv) - h_t||_2^2 with h the means and logits.

    Untargeted it is -1/2 ||h(x_adv) - h(x)||_2^2.

    Args:
        class_means: (classes, n), the mean h of each class; without it h_t is the target image's.
    """

    class_means: Tensor | None = None

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        found = context.model.encode(x_adv).vector()
        if not context.batch.targeted:
            return -0.5 * (found - context.source_posterior.vector()).square().sum(1)
        return 0.5 * (found - self._target(context)).square().sum(1)

    def _target(self, context: Context) -> Tensor:
        if self.class_means is None:
            return context.target_posterior.vector()
        assert context.batch.target_labels is not None, "attacks check for target labels"
        return self.class_means[context.batch.target_labels]


def _cut(part: Part) -> Part:
    if isinstance(part, Gaussian):
        return part.map(lambda tensor: tensor.clamp(-LARGEST, LARGEST))
    return part
