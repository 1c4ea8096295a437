"""A module's own forward: in what form it takes images, and where in its output they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from torch import Tensor
from torch import distributions as D

from genrobust.errors import GenrobustError
from genrobust.foreign import is_out_of_memory
from genrobust.models.adapters import describe

#: In what forms forward may take a batch: a flat network takes rows, pythae's a dictionary.
CALLS: dict[str, Callable[[Tensor], Any]] = {
    "module(x)": lambda x: x,
    "module(x.flatten(1))": lambda x: x.flatten(1),
    "module({'data': x})": lambda x: {"data": x},
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
    output: Any, shape: tuple[int, ...], depth: int = 3
) -> Iterator[tuple[str, Tensor]]:
    """Where in an output tensors are that may be images of a shape, and these."""
    if isinstance(output, D.Distribution):
        with suppress(NotImplementedError):  # a flow has none
            yield from ((f".mean{end}", t) for end, t in pictures_in(output.mean, shape))
    elif isinstance(output, Tensor):
        batch, channels, height, width = shape
        if not output.is_floating_point() or output.is_nested:
            return
        if output.shape == shape:
            yield "", output
        elif output.shape == (batch, channels * height * width):
            yield f".view(-1, {channels}, {height}, {width})", output.reshape(shape)
        elif output.shape == (batch, height, width, channels):
            yield ".movedim(-1, 1)", output.movedim(-1, 1)
        elif output.shape == (batch, height, width) and channels == 1:
            yield ".unsqueeze(1)", output[:, None]
    elif depth:
        held: list[tuple[str, Any]] = []
        if isinstance(output, Mapping):
            held = [(f"[{key!r}]", value) for key, value in output.items()]
        elif isinstance(output, (tuple, list)):
            held = [(f"[{i}]", value) for i, value in enumerate(output)]
        elif hasattr(output, "__dict__"):
            held = [(f".{name}", value) for name, value in vars(output).items()]
        for where, value in held:
            yield from ((where + end, t) for end, t in pictures_in(value, shape, depth - 1))
