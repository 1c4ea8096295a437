"""Objectives through a judge that looks at the reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.batch import Context
from genrobust.models.model import Surrogate


@dataclass(frozen=True)
class JudgeMargin:
    """The margin of the judge's logits: below 0 the judge is fooled.

    Untargeted z_y - max_{i != y} z_i, targeted max_{i != t} z_i - z_t (Carlini & Wagner 2017,
    without their floor): unlike cross-entropy it does not saturate where the judge is sure.
    """

    surrogate: Surrogate = "softmax"
    temperature: float = 1.0

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        image = context.model.surrogate(x_adv, self.surrogate, self.temperature)
        batch = context.batch
        assert batch.judge is not None, "attacks check that they have a judge"
        logits = batch.judge.logits(image)
        if batch.targeted:
            assert batch.target_labels is not None, "attacks check that they have target labels"
            return -margin(logits, batch.target_labels)
        assert batch.labels is not None, "attacks check that they have labels"
        return margin(logits, batch.labels)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """z_label - max of the others, (B,)."""
    chosen = logits.gather(1, labels[:, None])
    others = logits.masked_fill(
        torch.zeros_like(logits, dtype=torch.bool).scatter(1, labels[:, None], True), -torch.inf
    )
    return chosen[:, 0] - others.amax(1)
