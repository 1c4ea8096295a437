"""By what ways of its own a module goes from images to images: its forward, or a method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from torch import nn

from genrobust.models.reading.modules import has_forward, method, place_of, unwrapped

#: What methods are called that give images of images, and what lies between encoder and decoder.
_METHODS = ("reconstruct", "autoencode", "reconstruction", "recon", "generate", "_run_step")
_BETWEEN = ("quantize", "quantise", "quantizer", "quantiser", "vq", "vq_layer")
#: Where the code may be in what the latter gives.
_PLACES = (None, 0, 1, 2)


class OwnWay(NamedTuple):
    """A way from images to images.

    Args:
        name: for sentences.
        written: how to type it, with ``{0}`` for the images and ``{1}`` for a label after them.
        of: gives it, of a module or a copy of it.
    """

    name: str
    written: str
    of: Callable[[nn.Module], Callable[..., Any]]


def _itself(module: nn.Module) -> Callable[..., Any]:
    return module


FORWARD = OwnWay("forward", "module({0}{1})", _itself)


def ways_of(module: nn.Module) -> Iterator[OwnWay]:
    """A module's forward first, if it has one; others may take or give something else.

    >>> class Model(nn.Module):
    ...     def reconstruct(self, x): ...
    >>> [way.written for way in ways_of(Model())]
    ['module.reconstruct({0}{1})']
    """
    inner = unwrapped(module)
    if has_forward(inner):
        yield FORWARD
    for name in _METHODS:
        if _has(inner, name):
            yield OwnWay(name, f"{place_of(module, name)}({{0}}{{1}})", attrgetter(name))
    for name in _BETWEEN:
        if _has(inner, name) and method(inner, "encode", "encoder") is not None:
            for place in _PLACES:
                yield _through(name, place_of(module, name), place)


def _has(module: nn.Module, name: str) -> bool:
    with suppress(Exception):  # other people's properties
        return method(module, name) is not None
    return False


def _through(name: str, written: str, place: int | None) -> OwnWay:
    """The way through what lies between the two halves, whose output has the code there."""
    taken = "" if place is None else f"[{place}]"
    return OwnWay(
        f"decode({name}(encode(x)))",
        f"module.decode({written}(module.encode({{0}}{{1}})){taken}{{1}})",
        partial(_joined, name=name, place=place),
    )


def _joined(module: nn.Module, name: str, place: int | None) -> Callable[..., Any]:
    def pictures(x: Any, *labels: Any) -> Any:
        parts = (("encode", "encoder"), (name,), ("decode", "decoder"))
        encode, between, decode = filter(None, (method(module, *names) for names in parts))
        with _unused(between):  # once more than a half uses it, it may give something else
            code = encode(x, *labels)
        code = between(code)
        with _unused(between):
            return decode(code if place is None else code[place], *labels)

    return pictures


@contextmanager
def _unused(part: object) -> Iterator[None]:
    """Raise where a part is called."""

    def refuse(*_: object) -> None:
        raise RuntimeError("it is a part of a half")

    handle = part.register_forward_pre_hook(refuse) if isinstance(part, nn.Module) else None
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()
