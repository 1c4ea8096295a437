"""The models of the thesis by name, each with its network; how they are trained is in training/."""

from __future__ import annotations

from pydantic import ValidationError

from genrobust.errors import GenrobustError
from genrobust.models.networks import NetworkSpec

_GAUSSIAN = NetworkSpec(gaussian=10)
_JOINT = NetworkSpec(gaussian=10, categorical=(10,))

FAMILIES: dict[str, NetworkSpec] = {
    "vae": _GAUSSIAN,
    "vae-wd": _GAUSSIAN,
    "betavae": _GAUSSIAN,
    "betavae-capacity": _GAUSSIAN,
    "jointvae": _JOINT,
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
        return NetworkSpec(**{**FAMILIES[family].model_dump(), "input_shape": tuple(shape)})
    except ValidationError as problem:
        raise GenrobustError(
            f"the network of '{family}' reads images whose height and width are multiples of 8, "
            f"not {' x '.join(map(str, shape))}; give the data set another size, such as "
            "Images(..., size=(32, 32)), to which its images are resized"
        ) from problem
