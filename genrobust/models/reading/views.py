"""In which units numbers may be a picture, and how to write it in those of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

#: Pixels as own = (pixel - mean) / std, a number for each channel or one for all.
Units = tuple[tuple[float, ...], tuple[float, ...]]
UNITS: dict[str, Units] = {
    "value_range=(0, 1)": ((0.0,), (1.0,)),
    "value_range=(-1, 1)": ((0.5,), (0.5,)),
    "value_range=(0, 255)": ((0.0,), (1 / 255,)),
    "value_range=(-0.5, 0.5)": ((0.5,), (1.0,)),
    "(x - 0.1307) / 0.3081": ((0.1307,), (0.3081,)),
    "ImageNet's mean and std": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CIFAR-10's mean and std": ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
}

#: How numbers may be pixels in [0, 1] other than in the units that forward is given.
_SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "unit": lambda given: given,
    "sigmoid": lambda given: given.sigmoid(),
    "bytes": lambda given: given / 255,
    "centred": lambda given: (given + 1) / 2,
}
#: The scale of whole numbers from 0 to 255.
WHOLE = "whole"


class View(NamedTuple):
    """A picture in what forward gives.

    Args:
        call: how forward was called.
        units: of what it was given.
        path: how to write what was taken of what it gave.
        scale: which units those numbers are in.
    """

    call: str
    units: str
    path: str
    scale: str

    @property
    def level(self) -> float:
        """By how much a pixel may be off because it was rounded, or cut off, to a whole number."""
        return 1 / 255 if self.scale == WHOLE else 0.0

    def source(self, declared: tuple[float, float]) -> str:
        """How to write the picture, with pixels in the declared range.

        >>> View("module(x)", "", "module(x)[0]", "sigmoid").source((-1, 1))
        '-1 + 2 * module(x)[0].sigmoid()'
        """
        if self.scale == "own":
            return self.path
        words = {
            "sigmoid": f"{self.path}.sigmoid()",
            "bytes": f"{self.path} / 255",
            WHOLE: f"{self.path} / 255",
            "centred": f"({self.path} + 1) / 2",
        }.get(self.scale, self.path)
        low, high = declared
        if high - low != 1:
            words = f"{high - low:g} * ({words})" if " " in words else f"{high - low:g} * {words}"
        return words if low == 0 else f"{low:g} + {words}"


def in_each_scale(numbers: Tensor) -> dict[str, Tensor]:
    """Numbers as pixels in [0, 1], by the scale that they may have.

    Those that all lie in [0, 1] are such pixels: what a second sigmoid makes of them is another
    picture, which is not forward's.
    """
    if _are_unit(numbers):
        return {"unit": numbers}
    return {scale: of(numbers) for scale, of in _SCALES.items()}


def likely_views(
    found: Mapping[View, Tensor], declared: tuple[float, float], clamp: bool
) -> Iterable[View]:
    """Of pictures that are not those that are scored, the views in units that their numbers have.

    Args:
        found: the pictures in each view.
        declared: the range that the model is said to have.
        clamp: numbers beyond it are said to be clipped.
    """
    raw = {view.path: numbers for view, numbers in found.items() if view.scale == "unit"}
    likely = {path: _likely_scales(numbers, declared, clamp) for path, numbers in raw.items()}
    return [view for view in found if view.scale in likely.get(view.path, (WHOLE,))]


def _likely_scales(numbers: Tensor, declared: tuple[float, float], clamp: bool) -> tuple[str, ...]:
    if _are_unit(numbers):
        return ("unit",)
    low, high = float(numbers.min()), float(numbers.max())
    if low >= declared[0] and high <= declared[1]:
        return ("own",)
    if low >= 0 and high <= 255:
        return ("bytes",)
    # Beyond [-1, 1] they are what a sigmoid takes, or pixels that the deployment clips.
    if low >= -1 and high <= 1:
        return ("own", "centred")
    return ("own",) if clamp else ("own", "sigmoid")


def _are_unit(numbers: Tensor) -> bool:
    return bool(numbers.min() >= 0) and bool(numbers.max() <= 1)
