"""Find the quantiser between a module's encoder and its decoder, to read codes as tokens.

A codebook is known by no name or shape for certain. So each table that a module holds is tried: it
is the codebook where decoding its nearest entries is what the module's own ``forward`` gives, and
neither the features nor other entries would do.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from operator import attrgetter
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrobust.errors import is_out_of_memory
from genrobust.models.checks.batches import tolerance_of
from genrobust.models.checks.fidelity import is_as_forward, unlike_forward
from genrobust.models.inputs import probe_images
from genrobust.models.model import GenerativeModel
from genrobust.models.reading.forward import Forward
from genrobust.models.reading.kept import kept
from genrobust.models.reading.modules import has_forward, method, qualified_name, unwrapped
from genrobust.models.reading.outputs import members
from genrobust.models.reading.precision import own_images
from genrobust.posterior import Codebook
from genrobust.seeding import generator

#: How many images of each kind are tried: soft ones, noise, and noise in black and white.
TRIED = 3
#: By how many tolerances pictures of other entries differ at least.
CLEARLY = 10

_Source = Callable[[Tensor], Tensor]


def by_tokens(model: GenerativeModel, made: Callable[..., GenerativeModel]) -> GenerativeModel:
    """The model with a :class:`genrobust.Codebook` for its posterior, if its quantiser is certain.

    Args:
        model: as it is read without, in eval mode.
        made: gives the same model with another ``encode=``.

    Returns:
        The model as it is where no table is the codebook, or more than one may be.
    """
    with kept(model.module):
        return _by_tokens(model, made)


def _by_tokens(model: GenerativeModel, made: Callable[..., GenerativeModel]) -> GenerativeModel:
    module = unwrapped(model.network)
    books = list(_books(module))
    if not books:
        return model
    x = _images(model)
    is_unlike = unlike_forward(model, x)
    for encode, own in _halves(module):
        images = own_images(model, x, encode)
        for source, layout, features in _sources(
            module, Forward(encode), images[: model.max_batch], books
        ):
            decode = layout.decode(own)
            certain = {}
            for book in books:
                # Most tables do not fit: told by their sizes, before anything runs again.
                code = _tried(_nearest, module, layout, features, book)
                if code is None:
                    continue
                read = made(encode=_Quantised(module, source, layout, book), decode=decode)
                read = replace(read, part=model.part)
                image = _tried(read.decode, code)
                if image is None:
                    break  # a code of other entries has the same size
                if not is_unlike(image) and _tried(_is_certain, read, x):
                    certain[book] = read
            tables = [book.of(module) for book in certain]
            if any(not torch.equal(tables[0], table) for table in tables):
                return model
            if certain:
                book, read = next(iter(certain.items()))
                spec = {**model.spec, "codebook": list(book.names), "decode": qualified_name(own)}
                return replace(read, spec=spec, typed=model.typed)
    return model


def _halves(module: nn.Module) -> Iterator[tuple[_Source, _Source]]:
    """A module's encode and decode, and the parts of it that stand in their place.

    Where encode ends, or decode begins, with the numbers of entries, those know features and codes.
    """
    encodes, decodes = (
        [one for name in names if (one := method(module, name)) is not None]
        for names in (("encode", "encoder"), ("decode", "decoder"))
    )
    yield from product(encodes, decodes)


class _Layout(NamedTuple):
    """How features of so many dimensions are laid out for a codebook, and its code for decode.

    ``on_sphere``: features and entries are scaled to length 1, by which the nearest entry is that
    of the smallest angle.
    """

    dimensions: tuple[int, ...]
    features: _Source
    code: _Source | None = None
    on_sphere: bool = False

    def decode(self, own: _Source) -> _Source:
        """What takes the code."""
        if self.code is None:
            return own
        ordered = self.code
        return lambda code: own(ordered(code))

    def posterior(self, features: Tensor, book: Tensor) -> Codebook:
        laid = self.features(features)
        if self.on_sphere:
            channel = -1 if laid.ndim == 3 else 1
            laid, book = F.normalize(laid, dim=channel), F.normalize(book, dim=-1)
        return Codebook(laid, book)


#: As they are; with channels last, for a decoder that takes them first, or last; each number alone.
_FLAT_LAYOUTS = (
    _Layout((2, 3, 4), lambda f: f),
    _Layout((4,), lambda f: f.movedim(-1, 1)),
    _Layout((4,), lambda f: f.movedim(-1, 1), lambda code: code.movedim(1, -1)),
)
_LAYOUTS = (
    *_FLAT_LAYOUTS,
    _Layout((2,), lambda f: f[..., None], lambda code: code[..., 0]),
    *(layout._replace(on_sphere=True) for layout in _FLAT_LAYOUTS),
)


@dataclass(frozen=True)
class _Book:
    """Where a module holds a codebook: one tensor, or one of each level of a residual quantiser."""

    names: tuple[str, ...]
    turned: bool = False

    def of(self, module: nn.Module) -> Tensor:
        # By name, as moving a module to another device replaces its buffers.
        levels = [attrgetter(name)(module).detach() for name in self.names]
        book = torch.stack(levels) if len(levels) > 1 else levels[0]
        book = book.flatten(0, -3) if book.ndim > 3 else book  # levels of (1, K, D)
        book = book[0] if book.ndim == 3 and len(book) == 1 else book
        return book.mT if self.turned else book


@dataclass(frozen=True)
class _Quantised:
    """An ``encode`` that gives the features that are quantised, and the codebook."""

    module: nn.Module
    source: _Source
    layout: _Layout
    book: _Book

    def __call__(self, x: Tensor) -> Codebook:
        return self.layout.posterior(self.source(x), self.book.of(self.module))


def _books(module: nn.Module) -> Iterator[_Book]:
    """All tables but the weights of torch's own layers; embeddings first, then other tensors."""
    levels: dict[str, list[str]] = {}
    owners = list(module.named_modules())
    owners.sort(key=lambda owner: not isinstance(owner[1], nn.Embedding))
    for path, owner in owners:
        is_layer = type(owner).__module__.startswith("torch.nn") and has_forward(owner)
        if is_layer and not isinstance(owner, nn.Embedding):
            continue
        held = (*owner.named_parameters(path, False), *owner.named_buffers(path, False))
        for name, tensor in held:
            if tensor.is_floating_point() and tensor.ndim in (2, 3):
                yield from (_Book((name,)), _Book((name,), turned=True))
                levels.setdefault(re.sub(r"\.\d+\.", ".*.", f".{name}"), []).append(name)
    yield from (_Book(tuple(names)) for names in levels.values() if len(names) > 1)


def _sources(
    module: nn.Module, encode: Callable[[Tensor], Any], x: Tensor, books: list[_Book]
) -> Iterator[tuple[_Source, _Layout, Tensor]]:
    """Where features may be, how, and those of ``x``: what the encoder gives, or a part takes."""
    named = {name for book in books for name in book.names}
    owners = [
        path
        for path, _ in module.named_modules()
        if path and any(name.startswith(f"{path}.") for name in named)
    ]
    given = _tried(lambda: len(_tensors(encode(x)))) or 0
    sources: list[_Source] = [partial(_leaf, encode, place) for place in range(given)]
    sources += [partial(_tapped, module, path, encode) for path in owners]
    for source in sources:
        features = _tried(source, x)
        if features is not None and features.is_floating_point():
            ways = (way for way in _LAYOUTS if features.ndim in way.dimensions)
            yield from ((source, way, features) for way in ways)


def _nearest(module: nn.Module, layout: _Layout, features: Tensor, book: _Book) -> Tensor:
    """The entries nearest to the features; in float32, as some precisions know no distances."""
    return layout.posterior(features.float(), book.of(module).float()).mode()


def _leaf(encode: Callable[[Tensor], Any], place: int, x: Tensor) -> Tensor:
    return _tensors(encode(x))[place]


def _tapped(module: nn.Module, path: str, encode: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    """What a part is given while the encoder runs."""
    taken: list[Tensor] = []
    thread = threading.get_ident()

    def take(part: nn.Module, given: tuple[Any, ...]) -> None:
        if threading.get_ident() == thread:
            taken.append(given[0])

    handle = module.get_submodule(path).register_forward_pre_hook(take)
    try:
        encode(x)
    finally:
        handle.remove()
    return taken[0]


def _tensors(output: Any) -> list[Tensor]:
    held = [output] if isinstance(output, Tensor) else [value for _, value in members(output)]
    return [value for value in held if isinstance(value, Tensor)]


def _images(model: GenerativeModel) -> Tensor:
    soft = probe_images(model.input_shape, TRIED)
    noise = torch.rand(soft.shape, generator=generator("quantiser"))
    return torch.cat([soft, noise, noise.round()]).to(model.device)


@torch.no_grad()
def _is_certain(model: GenerativeModel, x: Tensor) -> bool:
    (part,) = model.encode(x).parts
    assert isinstance(part, Codebook)
    allowed, code = tolerance_of(model), part.mode()
    if not code.isfinite().all() or float((part.features - code).abs().amax()) <= allowed:
        return False
    if not is_as_forward(model, x):
        return False
    # A decoder that quantises itself gives the features' own picture, so others are asked for.
    others = part.pinned((part.tokens() + 1) % part.scores().shape[-1])
    return any(
        bool(((model.decode(c) - model.decode(code)).abs() > CLEARLY * allowed).any())
        for c in (part.features, others)
    )


def _tried(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives; None where other people's code fails on what it may not take."""
    try:
        with torch.no_grad():
            return function(*arguments)
    except Exception as problem:
        if is_out_of_memory(problem):
            raise
        return None
