"""The line to type where a module's halves do not go together as they are: each is tried.

What decode is given may be a part of what encode gives, half of it, what layers beside it make of
that, in another shape or squashed. The first whose picture is the module's own is named; of a
module without such pictures, the first of which decode makes any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain, permutations, product
from math import isqrt
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrobust.errors import GenrobustError
from genrobust.models.checks.halves import encoded, held_in
from genrobust.models.checks.heads import heads_of
from genrobust.models.checks.own_forward import OwnForward, apart
from genrobust.models.model import GenerativeModel
from genrobust.models.reading.adapters import posterior_of
from genrobust.models.reading.held_noise import HeldNoise
from genrobust.models.reading.modules import method, place_of, unwrapped
from genrobust.models.reading.outputs import members
from genrobust.models.reading.views import View
from genrobust.models.reading.ways import ways_of

#: Of a module with more parts than these beside its halves none is tried between them: all ways
#: through them would take minutes.
MANY = 8


class Seen(NamedTuple):
    """A picture that a module gives by a way of its own."""

    own: OwnForward
    view: View
    image: Tensor


class CodeLine(NamedTuple):
    """A way to read a module.

    Args:
        code: what decode is given of some images.
        encode: what to type for it; "" where that is as it is read.
        decode: likewise.
        proviso: of what it is true, where no picture of the module's own tells.
    """

    code: Tensor
    encode: str = ""
    decode: str = ""
    proviso: str = "if that is what it takes"

    def words(self, own: str = "") -> str:
        """What to type, and what says that it is right.

        >>> CodeLine(torch.ones(1, 2), "module.encode(x)[0]", proviso="if that is the code").words()
        'pass encode=lambda x: module.encode(x)[0] if that is the code'
        """
        encode = f"encode=lambda x: {self.encode}" if self.encode else ""
        decode = f"decode=lambda z: module.decode({self.decode})" if self.decode else ""
        typed = " and ".join(filter(None, [encode, decode]))
        return f"pass {typed}" + (f", the code that {own} decodes" if own else f" {self.proviso}")


@torch.no_grad()
def line_that_reads(model: GenerativeModel, x: Tensor, likely: bool = True) -> str | None:
    """What to type of a model that cannot be read as it is; None where no line is known.

    Args:
        model: one whose encoder's output is not what its decoder takes.
        x: images (B, C, H, W) in [0, 1].
        likely: also where no picture of the module's own tells.
    """
    x = x[: model.max_batch]
    for way in ways_of(model.network):
        own = OwnForward(replace(model, clamp=False), way=way)
        seen = [Seen(own, *found) for call in own.calls for found in own.pictures(x, call)]
        if seen:
            line = line_to(model, x, seen)
            return line and model.typed.put(line.words(own.name))
    line = line_to(model, x, []) if likely else None
    return line and model.typed.put(line.words())


@torch.no_grad()
def line_to(model: GenerativeModel, x: Tensor, seen: list[Seen]) -> CodeLine | None:
    """The first line by which a model gives one of its own pictures, or any where there are none.

    None also where it does so as it is read.
    """
    if model.condition is not None or _has_layers(model, x):
        return None
    # Of equal pictures a code with its spread says more; where none tells, the simplest is likely.
    told, halved, codes = _told(model, x), _halved(model, x), _codes(model, x)
    handed = (line for one in seen for line in _handed_back(one, x))
    taken = chain(told, halved, handed, codes) if seen else chain(told, codes, halved)
    for line in chain.from_iterable(between(model, one, squashed=bool(seen)) for one in taken):
        if _gives(model, line.code, x, seen):
            return line if line.encode or line.decode else None
    return None


def _has_layers(model: GenerativeModel, x: Tensor) -> bool:
    """Whether decode takes a list of codes."""
    with suppress(GenrobustError), HeldNoise(0.0):
        return len(model.encode(x).parts) > 1
    return False


def line_through_heads(model: GenerativeModel, x: Tensor) -> CodeLine | None:
    """The line that takes a code by the layers beside the encoder, in a form that decode takes."""
    heads = _through_heads(model, x)
    lines = chain.from_iterable(between(model, one, squashed=False) for one in heads)
    return next((line for line in lines if _gives(model, line.code, x, [])), None)


def _gives(model: GenerativeModel, code: Tensor, x: Tensor, seen: list[Seen]) -> bool:
    """Whether decode makes one of the pictures of a code, or any picture where there are none."""
    try:
        image = model.decode(code)
    except Exception:  # other people's code
        return False
    if image.shape != x.shape or not image.isfinite().all():
        return False
    return not seen or any(apart(s.image, image) <= s.own.allowed(s.view) for s in seen)


def _told(model: GenerativeModel, x: Tensor) -> Iterator[CodeLine]:
    """A code that is known by its form: what heads make, or a posterior beside something else."""
    yield from _through_heads(model, x)
    with suppress(Exception), HeldNoise(0.0):  # other people's code
        (output,) = encoded(model, x)
        for place, held in members(output):
            if not isinstance(held, Tensor):
                with suppress(GenrobustError):
                    (part,) = posterior_of(held).parts
                    written = f"module.encode(x){place}"
                    yield CodeLine(part.mode(), written, "", "if that is the posterior")


def _through_heads(model: GenerativeModel, x: Tensor) -> Iterator[CodeLine]:
    heads = heads_of(model, x)
    if heads is not None:
        yield CodeLine(heads.code, heads.written, "", "if they give a mean and a log-variance")


def _handed_back(seen: Seen, x: Tensor) -> Iterator[CodeLine]:
    """The (mean, log-variance) that may stand beside a picture in what forward gives."""
    for mean, written in seen.own.codes(x, seen.view):
        if mean.ndim > 1:
            yield CodeLine(mean, written)


def _halved(model: GenerativeModel, x: Tensor) -> Iterator[CodeLine]:
    """A mean that may lie beside its log-variance in one tensor."""
    for written, code in _tensors(model, x):
        if code.shape[1] % 2 == 0:
            sides = "if it is the mean and the log-variance side by side"
            yield CodeLine(code.chunk(2, 1)[0], f"{written}.chunk(2, 1)", "", sides)


def _codes(model: GenerativeModel, x: Tensor) -> Iterator[CodeLine]:
    """What may be the code alone: as it is read, each in what encode gives, all of these joined."""
    with suppress(GenrobustError), HeldNoise(0.0):
        (part,) = model.encode(x).parts
        yield CodeLine(part.mode())
    tensors = [*_tensors(model, x)]
    for written, code in tensors:
        yield CodeLine(code, written, "", "if that is the code")
        choices = F.one_hot(code.argmax(-1), code.shape[-1]).float()
        yield CodeLine(choices, f"genrobust.Categorical({written})", "", "if these are logits")
    with suppress(RuntimeError, ValueError):  # of other shapes, or none
        joined = torch.cat([code for _, code in tensors], 1)
        listed = ", ".join(written for written, _ in tensors)
        yield CodeLine(joined, f"torch.cat([{listed}], 1)", "", "if these are one code")


def _tensors(model: GenerativeModel, x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The tensors in what the module's own encoder gives, and what a part makes of one alone."""
    with suppress(Exception), HeldNoise(0.0):  # other people's code
        found = held_in(encoded(model, x)).items()
        # A number for each image, such as a loss, is no code.
        held = {f"module.encode(x){k}": t.float() for k, t in found if t.ndim > 1}
        yield from held.items()
        if len(held) == 1:
            yield from _through(model.network, [*held.items()], most=1)


def between(model: GenerativeModel, line: CodeLine, squashed: bool) -> Iterator[CodeLine]:
    """A line, with all that may lie between the code that it takes and decode."""
    shaped = [*_shaped("z", line.code)]
    moved = _through(model.network, shaped, most=2)
    if squashed:
        made = ((how.format("z"), of(line.code)) for how, of in _SQUASHED.items())
        # What makes one code of all images is not how a picture of noise alone came about.
        moved = chain(moved, ((how, code) for how, code in made if not _is_one(code)))
    forms = chain(shaped, chain.from_iterable(_shaped(written, code) for written, code in moved))
    for written, code in forms:
        yield line._replace(code=code, decode="" if written == "z" else written)


def _is_one(codes: Tensor) -> bool:
    return len(codes) > 1 and torch.allclose(codes[1:], codes[:-1])


#: What a forward does to a code's numbers.
_SQUASHED: dict[str, Callable[[Tensor], Tensor]] = {
    "{}.tanh()": torch.tanh,
    "{}.sigmoid()": torch.sigmoid,
    "{}.relu()": torch.relu,
    "{}.softmax(-1)": lambda z: z.softmax(-1),
    "torch.nn.functional.normalize({})": F.normalize,
}


def _shaped(written: str, code: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A code as it is, and in the other shapes that decoders take."""
    yield written, code
    if code.ndim == 2:
        numbers = code.shape[1]
        for side in range(1, isqrt(numbers) + 1):
            if numbers % side**2 == 0:
                shape = (-1, numbers // side**2, side, side)
                yield f"{written}.view{shape}", code.reshape(shape)
    if code.ndim > 2:
        yield f"{written}.flatten(1)", code.flatten(1)
    if code.ndim == 3:
        turned, side = code.transpose(1, 2), isqrt(code.shape[1])
        yield f"{written}.transpose(1, 2)", turned
        if side**2 == code.shape[1]:
            sides = (side, side)
            yield f"{written}.transpose(1, 2).unflatten(2, {sides})", turned.unflatten(2, sides)
    if code.ndim == 4:
        yield f"{written}.mean((2, 3))", code.mean((2, 3))
        yield f"{written}.flatten(2).transpose(1, 2)", code.flatten(2).transpose(1, 2)


def _through(
    module: nn.Module, codes: list[tuple[str, Tensor]], most: int
) -> Iterator[tuple[str, Tensor]]:
    """What so many of a module's other parts, one after the other, make of a code."""
    inner = unwrapped(module)
    halves = [method(inner, half) for half in ("encode", "encoder", "decode", "decoder")]
    named = inner.named_children()
    parts = [n for n, part in named if part not in halves and _holds_numbers(part)]
    if len(parts) > MANY:
        return
    orders = [order for n in range(1, most + 1) for order in permutations(parts, n)]
    for start, order in product(codes, orders):
        made = [start]
        for name in order:
            made = [*chain.from_iterable(_put_through(inner, module, name, *one) for one in made)]
        yield from ((w, c) for w, c in made if len(c) == len(start[1]))


def _holds_numbers(part: nn.Module) -> bool:
    return any(True for _ in chain(part.parameters(), part.buffers()))


def _put_through(
    inner: nn.Module, module: nn.Module, name: str, written: str, code: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """What a part makes of a code, or each tensor of that, as a quantiser gives more than one."""
    with suppress(Exception):  # other people's code
        found = held_in([getattr(inner, name)(code)]).items()
        place = place_of(module, name)
        yield from ((f"{place}({written}){k}", c.to(code.dtype)) for k, c in found)
