"""The models by name, each with its network; how they are trained is in training/."""

from __future__ import annotations

from pydantic import ValidationError

from genrobust.errors import GenrobustError
from genrobust.models.networks import NetworkSpec

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
}


def network_for(family: str, shape: tuple[int, int, int]) -> NetworkSpec:
    """A family's network for images of a shape (channels, height, width).

    Raises:
        GenrobustError: it cannot read such images.

    Example:
        >>> network_for("vae", (3, 64, 64)).input_shape
        (3, 64, 64)
    """
    try:
        return NetworkSpec(**{**NETWORKS[family].model_dump(), "input_shape": tuple(shape)})
    except ValidationError as problem:
        raise GenrobustError(
            f"the network of '{family}' reads images whose height and width are multiples of 8, "
            f"not {' x '.join(map(str, shape))}; give the data set another size, such as "
            "Images(..., size=(32, 32)), to which its images are resized"
        ) from problem
