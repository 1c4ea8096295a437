"""How many images go through models: counted where a search by others may not count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Passes:
    """A count.

    Args:
        images: how many went through.
    """

    images: int = 0


_COUNTED: ContextVar[tuple[Passes, ...]] = ContextVar("passes", default=())


@contextmanager
def counted() -> Iterator[Passes]:
    """Count the images that go through models in the block.

    Example:
        >>> import genrobust
        >>> model, x = genrobust.load_model("vae"), genrobust.load_images("digits").take([0, 1])
        >>> with counted() as passes:
        ...     image = model.reconstruct(x)
        >>> passes.images
        2
    """
    passes = Passes()
    token = _COUNTED.set((*_COUNTED.get(), passes))
    try:
        yield passes
    finally:
        _COUNTED.reset(token)


def count(images: int) -> None:
    """So many images go through a model."""
    for passes in _COUNTED.get():
        passes.images += images
