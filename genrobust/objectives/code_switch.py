"""An objective for categorical codes: flip the argmax, and fool the judge as if it had flipped."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from genrobust.batch import Context
from genrobust.objectives.classifier import judge_margin, margin
from genrobust.posterior import Categorical, Posterior

#: How far the wanted category's logit must lead before the flip counts as made.
LEAD = 0.5


@dataclass(frozen=True, eq=False)
class CodeSwitch:
    """The judge's margin on the reconstruction from a switched code, plus what the switch lacks.

    The deployed code is an argmax: no gradient says that another category would help. So the
    category is fixed to a wanted one in the code that is decoded, and the encoder is pushed to
    give it by a hinge on its logits::

        max(margin(judge(decode(mean, wanted))), -confidence) + max(LEAD - margin(logits), 0)

    Both terms are 0 or below exactly when the deployed path is fooled.

    Args:
        part: which part of the posterior is switched.
        wanted: the category for each sample of the whole batch, by sample id.
        confidence: how far below 0 the judge's margin is worth pushing.
    """

    part: int
    wanted: dict[int, int]
    confidence: float = 4.0

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        posterior = context.model.encode(x_adv)
        categorical = posterior.parts[self.part]
        assert isinstance(categorical, Categorical)
        wanted = categorical.logits.new_tensor(
            [self.wanted[i] for i in context.batch.sample_ids]
        ).long()
        image = context.model.decode(switched(posterior, self.part, wanted))
        fooled = judge_margin(image, context).clamp_min(-self.confidence)
        lacking = (LEAD - margin(categorical.logits, wanted)).clamp_min(0)
        return fooled + lacking


def switched(posterior: Posterior, part: int, wanted: Tensor) -> Tensor:
    """The code with one categorical set to ``wanted``; other categoricals straight through."""
    codes = [p.straight_through().flatten(1) for p in posterior.parts]
    categorical = posterior.parts[part]
    assert isinstance(categorical, Categorical)
    codes[part] = F.one_hot(wanted, categorical.logits.shape[1]).to(categorical.logits)
    return posterior.join(codes)
