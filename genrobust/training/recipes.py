"""How each model of the zoo is trained: everything that its weights depend on but the seed."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from genrobust.errors import unknown_name
from genrobust.models.networks import NetworkSpec
from genrobust.training.losses import Beta, Capacity, Penalty


class Recipe(BaseModel):
    """A network, its loss and the optimiser's settings.

    ``weight_decay`` is the decoupled kind (AdamW); at 0 the optimiser is Adam. ``temperature`` is
    the Concrete distribution's (thesis eq. 2.8). ``augment`` moves, turns and scales the training
    images, which the 1,198 of digits need.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: NetworkSpec
    penalty: Penalty
    steps: int
    batch_size: int = 64
    learning_rate: float = 5e-4
    weight_decay: float = 0.0
    temperature: float = 0.67
    augment: bool = False


_GAUSSIAN = NetworkSpec(gaussian=10)
_JOINT = NetworkSpec(gaussian=10, categorical=(10,))


def _families(steps: int) -> dict[str, Recipe]:
    ramp = steps * 5 // 6  # 25,000 of 30,000 steps on MNIST, JointVAE's published schedule
    capacity = Capacity(gamma=30, gaussian=10, ramp_steps=ramp)
    joint = Capacity(gamma=30, gaussian=5, categorical=5, ramp_steps=ramp)
    return {
        "vae": Recipe(network=_GAUSSIAN, penalty=Beta(), steps=steps),
        "vae-wd": Recipe(network=_GAUSSIAN, penalty=Beta(), steps=steps, weight_decay=0.1),
        "betavae": Recipe(network=_GAUSSIAN, penalty=Beta(beta=4), steps=steps),
        "betavae-capacity": Recipe(network=_GAUSSIAN, penalty=capacity, steps=steps),
        "jointvae": Recipe(network=_JOINT, penalty=joint, steps=steps),
    }


#: Steps on each dataset that the zoo is trained on.
STEPS = {"digits": 12_000, "mnist": 30_000}

FAMILIES = tuple(_families(1))


def recipe(family: str, dataset: str) -> Recipe:
    """The recipe of a zoo model on a dataset; other datasets get MNIST's.

    Raises:
        GenrobustError: no such family.
    """
    families = _families(STEPS.get(dataset, STEPS["mnist"]))
    if family not in families:
        raise unknown_name("model", family, families)
    return families[family].model_copy(update={"augment": dataset == "digits"})
