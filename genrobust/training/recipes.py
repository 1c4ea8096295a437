"""How each model of the zoo is trained: everything that its weights depend on but the seed."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from genrobust.data.base import DATASETS, is_reference
from genrobust.errors import unknown_name
from genrobust.models.families import NETWORKS, network_for
from genrobust.models.networks import NetworkSpec
from genrobust.training.losses import AnyLoss, Beta, Capacity, Count, Positive, Weight
from genrobust.training.losses.adversarial import VAEGAN, InfoGAN
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
from genrobust.training.losses.quantised import Quantised


class Recipe(BaseModel):
    """A network, its loss and the optimiser's settings.

    ``weight_decay`` is the decoupled kind (AdamW); at 0 the optimiser is Adam. ``temperature`` is
    the Concrete distribution's (thesis eq. 2.8). ``augment`` moves, turns and scales the training
    images, which the 1,198 of digits need.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: NetworkSpec
    penalty: AnyLoss
    steps: Count
    batch_size: Count = 64
    learning_rate: Positive = 5e-4
    weight_decay: Weight = 0.0
    temperature: Positive = 0.67
    augment: Annotated[bool, Field(strict=True)] = False

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        if problem := self.penalty.unfit(self.network):
            raise ValueError(problem)
        return self


class JudgeRecipe(BaseModel):
    """What can be chosen of a judge's training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: Count


def _penalties(steps: int) -> dict[str, AnyLoss]:
    ramp = steps * 5 // 6  # 25,000 of 30,000 steps on MNIST, JointVAE's published schedule
    return {
        "vae": Beta(),
        "vae-wd": Beta(),
        "betavae": Beta(beta=4),
        "betavae-capacity": Capacity(gamma=30, gaussian=10, ramp_steps=ramp),
        "jointvae": Capacity(gamma=30, gaussian=5, categorical=5, ramp_steps=ramp),
        "autoencoder": Beta(beta=0),
        "factorvae": Factor(),
        "betatcvae": TotalCorrelation(),
        "dipvae-i": Covariance(),
        "dipvae-ii": Covariance(type=2, diagonal=10),
        "predictability": Predictability(),
        "vaegan": VAEGAN(),
        "infogan": InfoGAN(),
        "fare-vae": RobustEncoder(),
        "smooth-encoder": RobustEncoder(distance="wasserstein2"),
        "adversarial-vae": RobustOutput(),
        "avae": SelfConsistent(),
        "mixup-vae": Mixup(),
        "civet-vae": Certified(ramp_steps=ramp),
        "vqvae": Quantised(),
        "seatbelt": Seatbelt(),
        "vib": Bottleneck(),
        "dc-ign": Clamped(),
        "lipschitz-vae": Beta(),
    }


#: Steps on each dataset that the zoo is trained on.
STEPS = {"digits": 12_000, "mnist": 30_000}


def recipe(family: str, dataset: str) -> Recipe:
    """The recipe of a zoo model on a dataset; other datasets get MNIST's, with their own shape.

    Raises:
        GenrobustError: no such family, or its network cannot read images of that shape.
    """
    if family not in NETWORKS:
        raise unknown_name("model", family, NETWORKS)
    steps = STEPS.get(dataset, STEPS["mnist"])
    is_known = dataset in DATASETS or is_reference(dataset)
    known = DATASETS.get(dataset if is_known else "mnist")
    return Recipe(
        network=network_for(family, known.image_shape, len(getattr(known, "classes", ()))),
        penalty=_penalties(steps)[family],
        steps=steps,
        weight_decay=0.1 if family == "vae-wd" else 0.0,
        augment=dataset == "digits",
    )
