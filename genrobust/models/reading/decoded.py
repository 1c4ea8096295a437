"""Read the image in what decoders of other libraries return."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch import distributions as D

from genrobust.errors import GenrobustError
from genrobust.models.reading.distributions import base_of, mean_of, way_to_show
from genrobust.models.reading.forward import pictures_in
from genrobust.models.reading.outputs import at, describe, get, plain

#: The names under which a decoder's mean is held, beside its spread.
_MEANS = ("mean", "mu", "loc", "x_mean", "px", "image", "images", "x")
#: The names under which an image is held.
_IMAGES = ("reconstruction", "sample", "recon_x", "x_recon", "recon", "x_hat", "reconstructions")


def image_of(
    output: Any,
    who: str = "the decoder",
    argument: str = "decode",
    shape: tuple[int, ...] | None = None,
) -> Tensor:
    """The image in what a decoder returned: of a distribution, its mean.

    Args:
        output: what was returned.
        who: what returned it, for errors.
        argument: of wrap, for errors.
        shape: (B, C, H, W), by which errors name what may be the image.

    Raises:
        GenrobustError: there is none, or more than one.
    """
    found = _images_in(output)
    if isinstance(output, D.Distribution) and not found:
        way = way_to_show(output, "d")
        such = f", such as one that ends in {way}, where d is that distribution" if way else ""
        raise GenrobustError(
            f"{who} returned the distribution {type(base_of(output)).__name__}, which has no mean; "
            f"pass {argument}=, a function that returns the picture itself{such}"
        )
    if len(found) > 1:
        raise GenrobustError(
            f"{who} returned {describe(output)}, and genrobust cannot tell which is the image; "
            f"pass {argument}=, a function that returns it alone, such as one that ends in [0], or "
            "in [-1] for the last of steps"
        )
    if not found and (line := _line(output, argument, shape)):
        raise GenrobustError(f"{who} returned {describe(output)}; pass {line}")
    if not found:
        raise GenrobustError(
            f"{who} returned {describe(output)}; known are a tensor, a torch.distributions "
            "object, an object with sample, a ModelOutput with reconstruction; or pass "
            f"{argument}=, a function that gives one of these"
        )
    return plain(found[0], who)


def _line(output: Any, argument: str, shape: tuple[int, ...] | None) -> str | None:
    """What to type to take what may be the image of an output: its mean where it has one."""
    if argument != "decode" or shape is None:
        return None
    paths = [path for path, _ in pictures_in(output, shape, "module.decode(z)")]
    means = (f"module.decode(z){at(output, name)}" for name in _MEANS)
    likely = next((path for mean in means for path in paths if path.startswith(mean)), None)
    path = likely or next(iter(paths), None)
    return None if path is None else f"decode=lambda z: {path} if that is the picture"


def _images_in(output: Any) -> list[Tensor]:
    """The tensors that may be the image; of a sequence the first, unless another is like it."""
    if isinstance(output, D.Distribution):
        mean = mean_of(output)
        return [] if mean is None else [mean]
    if isinstance(output, (tuple, list)) and output:
        first, *others = output
        if not isinstance(first, Tensor) or first.is_nested:
            return _images_in(first) if len(output) == 1 else []
        return [first, *(o for o in others if isinstance(o, Tensor) and o.shape == first.shape)]
    if isinstance(output, Tensor):
        return [output]
    held = (get(output, name) for name in _IMAGES)
    return [image for image in held if isinstance(image, Tensor)]
