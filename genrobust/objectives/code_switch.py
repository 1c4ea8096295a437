"""An objective for discrete codes: switch some, and fool the judge as if they had switched."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from genrobust.batch import Context
from genrobust.objectives.classifier import judge_margin
from genrobust.posterior import Discrete

#: By how much the wanted entries' scores must lead before the switch counts as made.
LEAD = 0.5


@dataclass(frozen=True, eq=False)
class CodeSwitch:
    """The judge's margin on the reconstruction from a switched code, plus what the switch lacks.

    The deployed code is the nearest of a list, such as an argmax: no gradient says that another
    entry would help. So some of the code is fixed to wanted entries where it is decoded, and the
    encoder is pushed to give them by a hinge on their scores::

        max(margin(judge(decode(wanted code))), -confidence) + max(LEAD - lead(wanted), 0)

    Both terms are 0 or below exactly when the deployed path is fooled.

    Args:
        part: which part of the posterior is switched.
        wanted: the entries for each sample of the whole batch, by sample id: a list of one number
            a position, :data:`genrobust.posterior.FREE` where it may be anything.
        confidence: how far below 0 the judge's margin is worth pushing.
    """

    part: int
    wanted: dict[int, list[int]]
    confidence: NonNegativeFloat = 4.0

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        posterior = context.model.encode(x_adv)
        part = posterior.parts[self.part]
        assert isinstance(part, Discrete)
        wanted = torch.tensor(
            [self.wanted[i] for i in context.batch.sample_ids], device=x_adv.device
        )
        image = context.model.decode(posterior.switched(self.part, wanted))
        fooled = judge_margin(image, context).clamp_min(-self.confidence)
        return fooled + (LEAD - part.lead(wanted)).clamp_min(0)
