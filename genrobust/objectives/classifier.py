"""Objectives through a judge that looks at the reconstruction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat
from torch import Tensor

from genrobust.batch import Batch, Context
from genrobust.models.model import Surrogate


@dataclass(frozen=True)
class JudgeMargin:
    """The margin of the judge's logits: below 0 the judge is fooled.

    Untargeted z_y - max_{i != y} z_i, targeted max_{i != t} z_i - z_t (Carlini & Wagner 2017,
    without their floor): unlike cross-entropy it does not saturate where the judge is sure.
    """

    needs_judge: ClassVar[bool] = True

    surrogate: Surrogate = "softmax"
    temperature: PositiveFloat = 1.0

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        image = context.model.surrogate(x_adv, self.surrogate, self.temperature)
        return judge_margin(image, context)


@dataclass(frozen=True)
class JudgeCrossEntropy:
    """The judge's cross-entropy to the target's class; untargeted, minus that to the source's.

    -log p_t(x_hat(x_adv)) or log p_y(x_hat(x_adv)): Szegedy et al. 2014, Goodfellow et al. 2015,
    Kurakin et al. 2017, Madry et al. 2018 on the model followed by the judge.
    """

    needs_judge: ClassVar[bool] = True

    surrogate: Surrogate = "softmax"
    temperature: PositiveFloat = 1.0

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        logits = judge_logits(
            context.model.surrogate(x_adv, self.surrogate, self.temperature), context
        )
        labels, sign = aim(context.batch)
        return sign * F.cross_entropy(logits, labels, reduction="none")


def judge_logits(image: Tensor, context: Context) -> Tensor:
    """What the attacker's judge makes of reconstructions, (B, classes)."""
    assert context.batch.judge is not None, "attacks check that they have a judge"
    return context.batch.judge.logits(image)


def judge_margin(image: Tensor, context: Context) -> Tensor:
    """JudgeMargin of given reconstructions, in logits, (B,): below 0 the goal is reached."""
    labels, sign = aim(context.batch)
    return -sign * margin(judge_logits(image, context), labels)


def deployed_margin(x_adv: Tensor, context: Context) -> Tensor:
    """The margin on the path that is scored, for attacks that need no gradient of it, (B,)."""
    return judge_margin(context.model.reconstruct(x_adv), context)


def aim(batch: Batch) -> tuple[Tensor, int]:
    """Labels, and 1 to reach them (targeted) or -1 to leave them (untargeted)."""
    if batch.targeted:
        assert batch.target_labels is not None, "attacks check that they have target labels"
        return batch.target_labels, 1
    assert batch.labels is not None, "attacks check that they have labels"
    return batch.labels, -1


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """z_label - max of the others, (B,)."""
    chosen = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return chosen[:, 0] - others.amax(1)
