"""The layers that make a mean and a log-variance of what an encoder gives, where they lie beside
it: its output has the form of a code, and forward alone takes it through them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor, nn

from genrobust.models.checks.halves import encoded, own_half, own_halves
from genrobust.models.model import GenerativeModel
from genrobust.models.reading.adapters import is_batch
from genrobust.models.reading.modules import method, place_of, unwrapped

_MEANS = ("mu", "mean", "loc")
_SPREADS = ("var", "logvar", "variance", "logvariance")


class Heads(NamedTuple):
    """Both layers.

    Args:
        names: theirs.
        code: the mean that they make of images.
        written: how to type (mean, log-variance).
    """

    names: tuple[str, str]
    code: Tensor
    written: str


def heads_of(model: GenerativeModel, x: Tensor) -> Heads | None:
    """The two layers beside a module's encoder that take what it gives; None without such.

    Args:
        model: one that is read by its encoder alone.
        x: images (B, C, H, W) in [0, 1].
    """
    module = unwrapped(model.network)
    encoder, names = own_half(model, "encode"), _names(module)
    if encoder is None or names is None or method(module, "encode") is not None:
        return None
    if model.condition is not None:
        return None
    mean, spread = (module.get_submodule(name) for name in names)
    typed = ", ".join(f"{place_of(model.network, name)}(h)" for name in names)
    with suppress(Exception):  # other people's code
        (features,) = encoded(model, x[: model.max_batch])
        for taken, given in (("", features), (".flatten(1)", features.flatten(1))):
            with suppress(Exception):
                code, other = mean(given), spread(given)
                if is_batch(code) and is_batch(other) and code.shape == other.shape:
                    line = f"(lambda h: ({typed}))(module.encode(x){taken})"
                    return Heads(names, code.to(x.dtype), line)
    return None


def between_halves(model: GenerativeModel, x: Tensor) -> Iterator[str]:
    """The parts of a module, read by its encoder and decoder alone, that fit between the two.

    Args:
        model: one of which no forward says how its parts go together.
        x: images (B, C, H, W) in [0, 1].
    """
    module = unwrapped(model.network)
    halves = own_halves(model)
    if halves is None or method(module, "encode", "decode") is not None:
        return
    encoder, decoder = halves
    for name, part in module.named_children():
        if part in (encoder, decoder) or next(part.parameters(), None) is None:
            continue  # an activation fits anywhere
        with suppress(Exception):  # other people's code
            (code,) = encoded(model, x[: model.max_batch])
            moved = part(code)
            if moved.shape == code.shape and not torch.equal(decoder(moved), decoder(code)):
                yield name


def _names(module: nn.Module) -> tuple[str, str] | None:
    """What the two are called, where one part alone is called as each of them is."""
    parts = [(name, name.lower().split("_")) for name, _ in module.named_children()]
    parts = [(name, words) for name, words in parts if "prior" not in words]
    means, spreads = (
        [name for name, words in parts if any(word in known for word in words)]
        for known in (_MEANS, _SPREADS)
    )
    return (means[0], spreads[0]) if len(means) == len(spreads) == 1 else None
