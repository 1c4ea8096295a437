"""The objectives that recipes name, each by its ``kind``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from genrobust.training.losses.adversarial import VAEGAN, InfoGAN
from genrobust.training.losses.base import Count, Positive, Sampler, Step, TrainingLoss, Weight
from genrobust.training.losses.bottleneck import Bottleneck
from genrobust.training.losses.certified import Certified
from genrobust.training.losses.clamped import Clamped
from genrobust.training.losses.correlation import (
    Covariance,
    Factor,
    Predictability,
    Seatbelt,
    TotalCorrelation,
)
from genrobust.training.losses.defences import Mixup, RobustEncoder, RobustOutput, SelfConsistent
from genrobust.training.losses.divergence import Beta, Capacity
from genrobust.training.losses.quantised import Quantised

AnyLoss = Annotated[
    Beta
    | Capacity
    | TotalCorrelation
    | Factor
    | Covariance
    | Predictability
    | Seatbelt
    | VAEGAN
    | InfoGAN
    | RobustEncoder
    | RobustOutput
    | SelfConsistent
    | Mixup
    | Certified
    | Quantised
    | Bottleneck
    | Clamped,
    Field(discriminator="kind"),
]

__all__ = [
    "AnyLoss",
    "Beta",
    "Capacity",
    "Count",
    "Positive",
    "Sampler",
    "Step",
    "TrainingLoss",
    "Weight",
]
