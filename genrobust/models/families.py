"""The models of the thesis by name, each with its network; how they are trained is in training/."""

from __future__ import annotations

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
