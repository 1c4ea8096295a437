"""A module's own forward: in what form it takes images, and where in its output they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch import distributions as D

from genrobust.errors import GenrobustError, is_out_of_memory
from genrobust.models.reading.distributions import mean_of
from genrobust.models.reading.outputs import describe, members


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _rows(x: Tensor) -> Tensor:
    return x.flatten(1)


def _as_data(x: Tensor) -> dict[str, Tensor]:
    return {"data": x}


#: In what forms forward may take a batch: a flat network takes rows, pythae's a dictionary. Named
#: functions, as a model holds the one that fits and goes to other processes.
CALLS: dict[str, Callable[[Tensor], Any]] = {
    "module(x)": _as_it_is,
    "module(x.flatten(1))": _rows,
    "module({'data': x})": _as_data,
}


class Forward:
    """A function of images, in whichever form of ``CALLS`` it takes them.

    Which that is is found at the first call.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function
        self._form: Callable[[Tensor], Any] | None = None

    def __call__(self, x: Tensor) -> Any:
        """What the function gives.

        Raises:
            Exception: what it raised for the images as they are, where it takes them in no form.
        """
        if self._form is not None:
            return self._function(self._form(x))
        first: Exception | None = None
        for form in CALLS.values():
            try:
                output = self._function(form(x))
            except Exception as problem:
                if is_out_of_memory(problem) or x.ndim != 4:
                    raise
                first = first or problem
            else:
                self._form = form
                return output
        assert first is not None
        raise first


class Alone:
    """A forward as a decoder whose codes are images: it gives the one picture in its output."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._call = Forward(function)

    def __call__(self, x: Tensor) -> Tensor:
        """Images to images.

        Raises:
            GenrobustError: there is none in the output, or more than one.
        """
        output = self._call(x)
        found = [image for _, image in pictures_in(output, tuple(x.shape)) if image is not x]
        # Whole numbers beside them say which, such as of which class.
        found = [image for image in found if image.is_floating_point()] or found
        if len(found) == 1:
            return found[0]
        if not found:
            raise GenrobustError(
                f"the module's forward returned {describe(output)} and no image for images of "
                f"shape {tuple(x.shape)}; give a model that reconstructs them, or deploy=, a "
                "function that returns the reconstructions (a classifier is no model here but a "
                "judge: --judge)"
            )
        raise GenrobustError(
            f"the module's forward returned {describe(output)}, in which {len(found)} may be the "
            "image; pass deploy=, a function that returns it alone, such as one that ends in [0]"
        )


def pictures_in(
    output: Any, shape: tuple[int, ...], written: str = "", depth: int = 3
) -> Iterator[tuple[str, Tensor]]:
    """What in an output may be images of a shape, also in whole numbers, and how to write it.

    Args:
        output: what a forward gave.
        shape: (B, C, H, W).
        written: how to write the output.
        depth: how many holders may lie in one another.
    """
    if isinstance(output, Tensor):
        yield from _laid_out(output, shape, written)
    elif isinstance(output, np.ndarray):
        with suppress(TypeError, ValueError):  # such as one of words
            yield from _laid_out(torch.as_tensor(output), shape, f"torch.as_tensor({written})")
    elif isinstance(output, D.Distribution):
        mean = mean_of(output)
        if mean is not None:
            yield from _laid_out(mean, shape, f"{written}.mean")
    elif (each := _one_an_image(output, shape)) is not None:
        yield f"torch.stack(list({written}))", each
    elif depth:
        for where, held in members(output):
            yield from pictures_in(held, shape, written + where, depth - 1)


def _laid_out(output: Tensor, shape: tuple[int, ...], written: str) -> Iterator[tuple[str, Tensor]]:
    """A tensor as images, if it is laid out as images of that shape may be."""
    batch, channels, height, width = shape
    if output.is_nested or output.is_complex() or output.dtype == torch.bool:
        return
    if output.shape == shape:
        yield written, output
    elif output.shape == (batch, channels * height * width):
        yield f"{written}.view(-1, {channels}, {height}, {width})", output.reshape(shape)
    elif output.shape == (batch, height, width, channels):
        yield f"{written}.movedim(-1, 1)", output.movedim(-1, 1)
    elif output.shape == (batch, height, width) and channels == 1:
        yield f"{written}.unsqueeze(1)", output[:, None]


def _one_an_image(output: Any, shape: tuple[int, ...]) -> Tensor | None:
    """A batch that is given as a list, or a tuple, of one tensor an image."""
    listed = output if isinstance(output, (list, tuple)) else ()
    if len(listed) != shape[0] or not all(isinstance(one, Tensor) for one in listed):
        return None
    return torch.stack(list(listed)) if all(one.shape == shape[1:] for one in listed) else None
