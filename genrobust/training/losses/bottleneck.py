"""The deep variational information bottleneck: a code that keeps of an image its class."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from genrobust.models.networks import NetworkSpec
from genrobust.training.losses.base import Step, TrainingLoss, Weight, bce


class Bottleneck(TrainingLoss):
    """Cross-entropy of the class, read from a draw of the code, + beta * KL (Alemi et al. 2017).

    Its output is class logits. So that what its code keeps can be looked at and attacked as of
    other families, the decoder learns beside it to reconstruct from codes that it cannot change:
    beta says how much of an image there is in them besides its class.
    """

    kind: Literal["vib"] = "vib"
    beta: Weight = 1e-3
    needs_labels: ClassVar[bool] = True

    def loss(self, at: Step) -> Tensor:
        assert at.labels is not None
        told = F.cross_entropy(at.network.classify(at.code), at.labels)
        seen = bce(at.network.decode(at.code.detach()), at.x)
        return told + self.beta * self(at.posterior, at.number) + seen

    def unfit(self, spec: NetworkSpec) -> str | None:
        if not spec.classes:
            return "the penalty 'vib' reads classes from the code; give network.classes"
        return super().unfit(spec)
