"""Norms: how long a change of an image is, and all that a threat model asks of that."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import Annotated, ClassVar

import torch
from pydantic import AfterValidator
from torch import Tensor

from genrobust.errors import GenrobustError
from genrobust.plugins import blamed, is_ours
from genrobust.registry import Registry

#: Float32 rounding that distances from a source are forgiven.
TOLERANCE = 1e-5


def allowed(radius: float) -> float:
    """The largest distance that counts as inside a radius: rounding is forgiven."""
    return radius * (1 + TOLERANCE) + TOLERANCE * 0.1


#: What an attack says whose mathematics knows the norm through :class:`Norm` alone.
ANY = "any"


class Norm(ABC):
    """A norm on changes of images, by which a ball around a source is measured.

    It has no state: one object is as good as another. Register a subclass with ``NORMS``, or offer
    it by the entry-point group ``genrobust.norms``, and its name stands for it in suites, on the
    command line and in records. Changes, gradients and images are (B, C, H, W). A subclass from
    outside is tried on a small batch before it is used, by all that is said here.

    Example:
        >>> load_norm("l2").length(torch.tensor([[[[0.3, -0.4]]]]))
        tensor([0.5000])
    """

    #: What it is called in suites, on the command line and in records.
    name: ClassVar[str]
    #: What it is called on pages, such as "L∞".
    label: ClassVar[str]
    #: Likewise in a terminal that may know ASCII only.
    ascii_label: ClassVar[str]
    #: Whether its ball is an interval for each pixel by itself.
    is_box: ClassVar[bool] = False
    #: A stored perturbation is a whole number of steps a pixel, of which the radius has so many ...
    levels: ClassVar[int] = 32767
    #: ... or this, in a larger ball: a pixel changes by 1 at most.
    widest_levels: ClassVar[float] = 1.0
    #: The (C, H, W) of the images that it is for, such as those that it has weights for, or any.
    shape: ClassVar[tuple[int, int, int] | None] = None

    def require_shape(self, shape: Sequence[int]) -> None:
        """Assert that it is for images of that shape (C, H, W).

        Raises:
            GenrobustError: it is not.
        """
        if self.shape is not None and tuple(shape) != tuple(self.shape):
            raise GenrobustError(
                f"the norm '{self.name}' is for images of shape {tuple(self.shape)}, and these "
                f"are of {tuple(shape)}; choose another norm, or images that it is for"
            )

    @abstractmethod
    def length(self, change: Tensor) -> Tensor:
        """The norm of each change, (B,)."""

    @abstractmethod
    def dual(self, gradient: Tensor) -> Tensor:
        """How steep a loss of that gradient is, per unit of the norm, (B,)."""

    @abstractmethod
    def steepest(self, gradient: Tensor, x: Tensor) -> Tensor:
        """A change of norm 1 along which a loss rises most; optimizers go the other way.

        It is as long however small or large the gradient is.

        A norm whose steepest change is of few pixels, which the box soon stops, may give one that
        is nearly as steep, and leaves out those that the box keeps from going the other way.

        Args:
            gradient: of the loss.
            x: where it was taken.
        """

    @abstractmethod
    def project(self, x_adv: Tensor, x: Tensor, radius: float | Tensor) -> Tensor:
        """Images moved into the box [0, 1] and into the ball around their sources.

        Args:
            x_adv: any images.
            x: their sources, in the box.
            radius: from 0 up, inf included; one for all, or (B, 1, 1, 1).
        """

    @abstractmethod
    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """A random change of that shape (C, H, W), of norm 1 or less."""

    @abstractmethod
    def reach(self, pixels: int) -> float:
        """The norm of a change by 1 of each of so many values: the box allows no more.

        A ball whose radius is a part of it holds the L-inf ball of that part, and no larger one.
        """

    def start_radius(self, pixels: int) -> float:
        """Starts are drawn in the ball, and no farther from the source than this."""
        return self.reach(pixels)

    @property
    def dtype(self) -> torch.dtype:
        """What stored perturbations are: the smallest type that holds ``levels``."""
        kinds = (torch.int8, torch.int16, torch.int32)
        return next(kind for kind in kinds if self.levels <= torch.iinfo(kind).max)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"<norm {self.name}>"


class Linf(Norm):
    """The largest change of a pixel."""

    name = "linf"
    label = "L∞"
    ascii_label = "L-inf"
    is_box = True
    levels = 127  # what an attack puts on the surface stays there

    def length(self, change: Tensor) -> Tensor:
        return _vector_norm(change, math.inf)

    def dual(self, gradient: Tensor) -> Tensor:
        return _vector_norm(gradient, 1)

    def steepest(self, gradient: Tensor, x: Tensor) -> Tensor:
        return gradient.sign()

    def project(self, x_adv: Tensor, x: Tensor, radius: float | Tensor) -> Tensor:
        low, high = (x - radius).clamp_min(0), (x + radius).clamp_max(1)
        return torch.minimum(torch.maximum(x_adv, low), high)

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        return 2 * torch.rand(shape, generator=generator) - 1

    def reach(self, pixels: int) -> float:
        return 1.0


def unit(vectors: Tensor) -> Tensor:
    """Of vectors (B, ...) the directions, of Euclidean length 1, however short or long; 0 stays 0.

    >>> unit(torch.tensor([[3.0, 4.0], [3e-30, 4e-30], [3e30, 4e30], [0.0, 0.0]])).round(decimals=6)
    tensor([[0.6000, 0.8000],
            [0.6000, 0.8000],
            [0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    each = (-1, *[1] * (vectors.ndim - 1))
    length = vectors.flatten(1).norm(dim=1)
    # The squares of numbers that a float32 holds may be smaller, or larger, than any that it does.
    scale = torch.where(length < 1e-15, 1e25, torch.where(length < 1e15, 1.0, 1e-25))
    vectors = vectors * scale.view(each).to(vectors)
    return vectors / vectors.flatten(1).norm(dim=1).clamp_min(1e-20).view(each)


#: Rounds in which an L2 projection finds its share; each is inside the ball, most need four.
PROJECTIONS = 8


class L2(Norm):
    """The Euclidean length of the change.

    A projection is the nearest point of ball and box: the change times a share, cut to the box. The
    share is as large as the ball allows; were the ball's length spent on what the box then cuts
    off, images with much black or white would be attacked in half the ball.
    """

    name = "l2"
    label = ascii_label = "L2"
    widest_levels = 32.0

    def length(self, change: Tensor) -> Tensor:
        return _vector_norm(change, 2)

    def dual(self, gradient: Tensor) -> Tensor:
        return _vector_norm(gradient, 2)

    def steepest(self, gradient: Tensor, x: Tensor) -> Tensor:
        return unit(gradient)

    def project(self, x_adv: Tensor, x: Tensor, radius: float | Tensor) -> Tensor:
        change = (x_adv - x).flatten(1)
        room = torch.where(change > 0, 1 - x.flatten(1), x.flatten(1))
        square, most = change.square(), room.square()
        budget = torch.as_tensor(radius).to(change).reshape(-1, 1).square()
        share, size = torch.zeros_like(change[:, :1]), change.abs()
        full = size * share >= room
        for _ in range(PROJECTIONS):
            left = (budget - most.masked_fill(~full, 0).sum(1, keepdim=True)).clamp_min(0)
            free = square.masked_fill(full, 0).sum(1, keepdim=True).clamp_min(1e-24)
            # Chosen before it is divided: a clamped quotient that overflows has no gradient.
            cut, none = free > left, left == 0
            part = (left.masked_fill(none | ~cut, 1) / free.masked_fill(none | ~cut, 1)).sqrt()
            share = part.masked_fill(none & cut, 0)
            before, full = full, size * share >= room
            if full.device.type == "cpu" and torch.equal(full, before):
                break  # all further rounds find the same share; another device would be waited for
        return (x + (change * share).view_as(x)).clamp(0, 1)

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        direction = torch.randn(shape, generator=generator)
        return direction / direction.norm().clamp_min(1e-12)

    def reach(self, pixels: int) -> float:
        return math.sqrt(pixels)

    def start_radius(self, pixels: int) -> float:
        return 1.0  # as everything under L2 was measured so far


NORMS: Registry[type[Norm]] = Registry(
    "norm", {"linf": "genrobust.norms:Linf", "l2": "genrobust.norms:L2"}, base=Norm
)


def load_norm(name: str) -> Norm:
    """The registered norm.

    Raises:
        GenrobustError: no such norm; one from outside that is none, see :func:`sound`.

    Example:
        >>> load_norm("linf").label
        'L∞'
    """
    return sound(NORMS.get(name))


def sound(kind: type[Norm]) -> Norm:
    """An object of a norm's class; one from outside is tried before it is used, once.

    Raises:
        GenrobustError: it is not what a norm must be.
    """
    if not is_ours(kind):
        _try(kind)
    return kind()


@cache
def _try(kind: type[Norm]) -> None:
    from genrobust.norms.trial import try_norm

    with blamed(f"the norm '{kind.name}'", kind):
        try_norm(kind())


def _known(name: str) -> str:
    try:
        load_norm(name)
    except GenrobustError as problem:
        raise ValueError(str(problem)) from problem
    return name


#: A norm in data: the name of one that is registered.
NormName = Annotated[str, AfterValidator(_known)]


def _vector_norm(values: Tensor, order: float) -> Tensor:
    return torch.linalg.vector_norm(values.flatten(1), order, dim=1)
