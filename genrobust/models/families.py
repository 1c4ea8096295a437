"""The models by name, each with its network; how they are trained is in training/."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import ValidationError
from torch import nn

from genrobust.errors import GenrobustError
from genrobust.models.model import GenerativeModel
from genrobust.models.networks import NetworkSpec
from genrobust.registry import Registry

_GAUSSIAN = NetworkSpec(gaussian=10)
_JOINT = NetworkSpec(gaussian=10, categorical=(10,))

#: Those of the thesis, whose weights ship.
FAMILIES: dict[str, NetworkSpec] = {
    "vae": _GAUSSIAN,
    "vae-wd": _GAUSSIAN,
    "betavae": _GAUSSIAN,
    "betavae-capacity": _GAUSSIAN,
    "jointvae": _JOINT,
}

#: All that can be trained.
NETWORKS: dict[str, NetworkSpec] = {
    **FAMILIES,
    "autoencoder": NetworkSpec(gaussian=10, deterministic=True),
    "factorvae": _GAUSSIAN,
    "betatcvae": _GAUSSIAN,
    "dipvae-i": _GAUSSIAN,
    "dipvae-ii": _GAUSSIAN,
    "predictability": _GAUSSIAN,
    "vaegan": _GAUSSIAN,
    "infogan": _JOINT,
    "fare-vae": _GAUSSIAN,
    "smooth-encoder": _GAUSSIAN,
    "adversarial-vae": _GAUSSIAN,
    "avae": _GAUSSIAN,
    "mixup-vae": _GAUSSIAN,
    "civet-vae": _GAUSSIAN,
    "vqvae": NetworkSpec(gaussian=0, codebook=(64, 8)),
    "seatbelt": NetworkSpec(gaussian=10, top=5),
    "vib": NetworkSpec(gaussian=10, classes=10),
    "dc-ign": _GAUSSIAN,
    "lipschitz-vae": NetworkSpec(gaussian=10, layers="dense", lipschitz=5.0),
}

#: From a data set's name to a torch module or a GenerativeModel.
ModelBuilder = Callable[[str], nn.Module | GenerativeModel]

MODELS: Registry[ModelBuilder] = Registry(
    "model", {name: f"genrobust.models.zoo:{name.replace('-', '_')}" for name in NETWORKS}
)

#: Those whose training is a defence, and which.
DEFENCES: dict[str, str] = {
    "fare-vae": "adversarial training of the code",
    "smooth-encoder": "smooth encoder",
    "adversarial-vae": "adversarial training of the reconstruction",
    "avae": "self-consistent encoder",
    "mixup-vae": "mixup",
    "seatbelt": "total correlation of two layers",
    "lipschitz-vae": "Lipschitz networks",
}


def network_for(family: str, shape: tuple[int, int, int], classes: int = 0) -> NetworkSpec:
    """A family's network for images of a shape (channels, height, width).

    Args:
        family: one of ``NETWORKS``.
        shape: of the images.
        classes: how many the data has, for a network that reads them.

    Raises:
        GenrobustError: it cannot read such images.

    Example:
        >>> network_for("vae", (3, 64, 64)).input_shape
        (3, 64, 64)
    """
    found = NETWORKS[family].model_dump() | {"input_shape": tuple(shape)}
    if "classes" in found:
        found["classes"] = classes or found["classes"]
    try:
        return NetworkSpec(**found)
    except ValidationError as problem:
        raise GenrobustError(
            f"the network of '{family}' reads images of 8 x 8 and more, not "
            f"{' x '.join(map(str, shape))}; give the data set another size, such as "
            "Images(..., size=(32, 32)), to which its images are resized"
        ) from problem
