"""Signs of a diagnosis alone, as if attacks led to nothing odd."""

from __future__ import annotations

import torch

from genrobust.outcomes.outcome import Signs
from genrobust.runner.signs import Diagnosis


def before_attacks(found: Diagnosis) -> Signs:
    ones = torch.ones_like(found.guidance.gradient_norm)
    return Signs(
        guidance=found.guidance,
        short=found.short,
        along_attacked=ones,
        response_attacked=ones,
        followed=ones,
    )
