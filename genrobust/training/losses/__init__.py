"""The objectives that recipes name, each by its ``kind``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from genrobust.training.losses.adversarial import VAEGAN, InfoGAN
from genrobust.training.losses.base import Count, Objective, Positive, Step, Weight
from genrobust.training.losses.correlation import (
    Covariance,
    Factor,
    Predictability,
    TotalCorrelation,
)
from genrobust.training.losses.defences import Mixup, RobustEncoder, RobustOutput, SelfConsistent
from genrobust.training.losses.divergence import Beta, Capacity

Penalty = Annotated[
    Beta
    | Capacity
    | TotalCorrelation
    | Factor
    | Covariance
    | Predictability
    | VAEGAN
    | InfoGAN
    | RobustEncoder
    | RobustOutput
    | SelfConsistent
    | Mixup,
    Field(discriminator="kind"),
]

__all__ = ["Beta", "Capacity", "Count", "Objective", "Penalty", "Positive", "Step", "Weight"]
