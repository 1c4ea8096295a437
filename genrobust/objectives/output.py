"""Objectives on the reconstruction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import PositiveFloat
from torch import Tensor

from genrobust.batch import Context
from genrobust.distance import euclidean
from genrobust.models.model import Surrogate


@dataclass(frozen=True)
class OutputDistance:
    """The Euclidean distance of reconstructions: to the target's, or away from the source's.

    Targeted it is the output attack of Gondim-Ribeiro, Tabacof & Valle 2018 with the target's
    reconstruction in place of the target; untargeted the maximum damage of Camuto et al. 2021.
    """

    surrogate: Surrogate = "softmax"
    temperature: PositiveFloat = 1.0

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        image = context.model.surrogate(x_adv, self.surrogate, self.temperature)
        if context.batch.targeted:
            return euclidean(image, context.target_reconstruction)
        return -euclidean(image, context.source_reconstruction)


@dataclass(frozen=True)
class Damage:
    """Away from the source itself: the reconstruction is to show it no more. Untargeted only.

    Camuto et al. 2021 go away from the clean reconstruction, whose own error an attack could then
    undo on its way.
    """

    goals: ClassVar[tuple[str, ...]] = ("untargeted",)

    surrogate: Surrogate = "softmax"
    temperature: PositiveFloat = 1.0

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        image = context.model.surrogate(x_adv, self.surrogate, self.temperature)
        return -euclidean(image, context.batch.x)


@dataclass(frozen=True)
class SquaredOutputError:
    """||x_t - x_hat(x_adv)||_2^2: the target image itself, not its reconstruction.

    Gondim-Ribeiro, Tabacof & Valle 2018, the output attack as coded. Targeted only.
    """

    goals: ClassVar[tuple[str, ...]] = ("targeted",)

    surrogate: Surrogate = "softmax"
    temperature: PositiveFloat = 1.0

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        image = context.model.surrogate(x_adv, self.surrogate, self.temperature)
        return (image - context.target_x).flatten(1).square().sum(1)
