"""The objectives of Kuzina, Welling & Tomczak 2021 and 2022."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from genrobust.batch import Context
from genrobust.metrics.latent import Probe
from genrobust.objectives.classifier import aim

#: How far two posteriors are apart. r is the target's, or untargeted the source's own.
Between = Literal["skl", "kl-forward", "kl-reverse", "means"]


@dataclass(frozen=True)
class PosteriorMatch:
    """How far q(z | x_adv) is from the target's posterior; untargeted, minus that from its own.

    Args:
        between: ``"skl"``: (KL(q_adv || r) + KL(r || q_adv)) / 2; ``"kl-forward"``:
            KL(r || q_adv); ``"kl-reverse"``: KL(q_adv || r); ``"means"``:
            ||h_adv - h_r||_2^2 with h the means and centred logits.
    """

    between: Between = "skl"

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        found = context.model.encode(x_adv)
        targeted = context.batch.targeted
        other = context.target_posterior if targeted else context.source_posterior
        if self.between == "skl":
            apart = found.symmetric_kl(other)
        elif self.between == "kl-forward":
            apart = other.kl(found)
        elif self.between == "kl-reverse":
            apart = found.kl(other)
        else:
            apart = (found.vector() - other.vector()).square().sum(1)
        return apart if targeted else -apart


@dataclass(frozen=True, eq=False)
class ProbeCrossEntropy:
    """A linear probe's cross-entropy to the target's class; untargeted, minus that to its own.

    Args:
        probe: of means and centred logits.
    """

    probe: Probe

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        logits = self.probe.logits(context.model.encode(x_adv).vector())
        labels, sign = aim(context.batch)
        return sign * F.cross_entropy(logits, labels, reduction="none")
