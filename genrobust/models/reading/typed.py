"""Lines that are to be typed: how a model's halves are written in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import nn

from genrobust.errors import GenrobustError
from genrobust.models.reading.modules import Pair, half_of, part_called, place_of

#: A function of codes in such a line, and what decode is given there.
_OF_CODES = re.compile(r"(lambda (?:z|codes)): (module\.decode\((?:[^()]|\([^()]*\))*)\)")


#: What functions of the user's are called in such a line.
GIVEN_ENCODE, GIVEN_DECODE = "your_encode", "your_decode"


class Typed(NamedTuple):
    """How a model's halves are written, and what its ``encode`` is given.

    Sentences speak of ``module.encode(x)`` and ``module.decode(z)``; :meth:`put` says it of the
    model at hand.

    >>> Typed("module.encoder", given="x, y").put("pass encode=lambda x: module.encode(x)[0]")
    'pass encode=lambda x, y: module.encoder(x, y)[0]'
    >>> Typed(given="x, y").put("decode=lambda z: module.decode(z.transpose(0, 1))[-1]")
    'decode=lambda z, y: module.decode(z.transpose(0, 1), y)[-1]'
    >>> Typed("module.vae.encode", network="module.vae").put("deploy=lambda x: module(x)[0]")
    'deploy=lambda x: module.vae(x)[0]'
    """

    encode: str = "module.encode"
    decode: str = "module.decode"
    given: str = "x"
    network: str = "module"

    def put(self, words: str) -> str:
        """Words with this model's halves in place of any model's."""
        words = words.replace("encode=lambda x:", f"encode=lambda {self.given}:")
        words = words.replace("module.encode(x)", f"module.encode({self.given})")
        if self.given != "x":
            words = _OF_CODES.sub(r"\1, y: \2, y)", words)
        place = r"\bmodule(?:\.(encode|decode)\b|(?=[(\[]|\.\w))"
        return re.sub(place, lambda found: getattr(self, found[1] or "network"), words)

    @contextmanager
    def spoken(self) -> Iterator[None]:
        """Errors that are raised here speak of this model's halves."""
        try:
            yield
        except GenrobustError as problem:
            problem.args = (self.put(str(problem)),)
            raise


def typed_of(
    module: nn.Module, encode: object, decode: object, labels: object, part: str = ""
) -> Typed:
    """How the halves of what was given to ``wrap`` are written.

    Args:
        module: what was given.
        encode, decode, labels: likewise, or None.
        part: that whose own halves are read; none for the module itself.
    """
    place = place_of(module, part) if part else "module"
    network = part_called(module, part)
    return Typed(
        GIVEN_ENCODE if encode is not None else _written(network, "encode", place),
        GIVEN_DECODE if decode is not None else _written(network, "decode", place),
        "x" if labels is None else "x, y",
        place,
    )


def _written(network: nn.Module, what: str, place: str) -> str:
    half = half_of(network, what)
    if isinstance(network, Pair) and place == "module":
        return half  # as wrap's own words for a pair
    return place_of(network, half).replace("module", place, 1)
