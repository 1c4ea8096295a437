"""A module's own way from images to images: in every form and range in which it may take them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise, product
from typing import Any

import torch
from torch import Tensor, nn

from genrobust.foreign import explain
from genrobust.models.checks.batches import tolerance_of
from genrobust.models.checks.halves import held_in, own_half
from genrobust.models.model import FORWARD_ALONE, GenerativeModel
from genrobust.models.reading.forward import CALLS, pictures_in
from genrobust.models.reading.held_noise import HeldNoise
from genrobust.models.reading.kept import Manner, kept
from genrobust.models.reading.modules import has_forward, method, unwrapped
from genrobust.models.reading.outputs import describe
from genrobust.models.reading.precision import own_images, precision_of
from genrobust.models.reading.views import UNITS, WHOLE, View, in_each_scale, likely_views
from genrobust.models.reading.ways import FORWARD, OwnWay


@dataclass(frozen=True, eq=False)
class OwnPicture:
    """A picture that forward gave.

    Args:
        pixels: (B, C, H, W) float64 in [0, 1].
        noise: how many normal numbers were drawn in each draw, 0 for those of another kind.
        loose: it changes though the noise is held.
        allowed: by how much a pixel may differ from the same one.
    """

    view: View
    pixels: Tensor
    noise: tuple[int, ...]
    loose: bool
    allowed: float


_DECLARED = "as declared"


def _calls(model: GenerativeModel, way: OwnWay) -> dict[str, Callable[[Tensor], tuple[Any, ...]]]:
    """In what forms a way may take images in the declared range, and how to write them."""

    def alone(form: Callable[[Tensor], Any], x: Tensor) -> tuple[Any, ...]:
        return (form(x),)

    def labelled(form: Callable[[Tensor], Any], x: Tensor) -> tuple[Any, ...]:
        assert model.condition is not None
        return form(x), model.condition(x)

    calls: dict[str, Callable[[Tensor], tuple[Any, ...]]] = {}
    forms = {name.removeprefix("module(")[:-1]: form for name, form in CALLS.items()}
    if model.condition is not None:
        calls = {
            way.written.format(given, ", labels(x)"): partial(labelled, form)
            for given, form in forms.items()
        }
    return calls | {way.written.format(n, ""): partial(alone, form) for n, form in forms.items()}


class OwnForward:
    """A module's own way from images to images.

    Args:
        model: the model.
        exact: pictures in whole numbers, which tell less, are passed over.
        way: a method that stands in the place of a forward.
        clamp: the deployment clips pictures, so that numbers beyond their range are pixels.
    """

    def __init__(
        self,
        model: GenerativeModel,
        exact: bool = False,
        way: OwnWay = FORWARD,
        clamp: bool = False,
    ) -> None:
        self.name, self._way = way.name, way
        self.why = f"its {way.name} gives no picture of the input's shape"
        #: Whether it takes images, and fails on them or gives something else.
        self.fails = self.is_blank = False
        #: The weights and buffers that it writes to.
        self.writes: dict[str, None] = {}
        self._model, self._module, self._exact = model, unwrapped(model.network), exact
        self._clamp = clamp
        self.exists = has_forward(self._module)
        # Through functions of one's own the module may see other images than it is scored on.
        has_half = method(self._module, "encode", "encoder") is not None
        led = has_half and own_half(model, "encode") is None
        # One that is read by a picture alone was asked for it.
        whole = bool(model.spec.get(FORWARD_ALONE))
        # A method that is no forward may be for something else than images.
        self._adapted = led or whole or model.deploy is not None or way is not FORWARD
        self.calls = _calls(model, way)
        self._range = low, high = model.spec.get("value_range", (0.0, 1.0))
        self._units = {_DECLARED: ((-low / (high - low),), (1 / (high - low),)), **UNITS}

    def nearest(self, x: Tensor, ours: Tensor) -> OwnPicture | None:
        """Of all pictures that forward gives, in any form, that nearest to ours."""
        for call, level in product(self.calls, (0.0, None)):  # some cannot do with noise held
            found, noise = self._run(call, _DECLARED, x, level)
            if not found:
                continue
            everywhere = dict(found)
            if not any(apart(image, ours) <= self.allowed(view) for view, image in found.items()):
                for units in self._units:  # encode= may convert what forward is given converted
                    everywhere |= self._run(call, units, x, level)[0]
            equal = [v for v, i in everywhere.items() if apart(i, ours) <= self.allowed(v)]
            clipped = [v for v, i in found.items() if is_clipped(i, ours, self.allowed(v))]
            view = min(
                equal or clipped or likely_views(found, self._range, self._clamp),
                key=lambda v: float((everywhere[v] - ours).square().sum()),
            )
            again, allowed = self.at(x, view, level), self.allowed(view)
            loose = again is None or apart(again, everywhere[view]) > allowed
            return OwnPicture(view, everywhere[view], noise, loose, allowed)
        return None

    def allowed(self, view: View) -> float:
        """By how much a pixel there may differ from the same one."""
        return tolerance_of(self._model) + view.level

    def source(self, view: View) -> str:
        """How to write the picture there, in the range that the model is said to have."""
        return view.source(self._range)

    def in_training(self) -> OwnForward:
        """The forward of a copy, whose parts that are no layers of torch's are in train mode.

        In those alone is code that draws; torch's layers would drop out and normalise by batch.
        """
        other = copy.copy(self)
        other.writes = {}  # there it may
        with suppress(Exception):  # what has no such mode stays as it is
            other._module = _copied(self._module)
            for part in other._module.modules():
                part.training = not type(part).__module__.startswith("torch.")
        return other

    def at(
        self, x: Tensor, view: View, level: float | None, size: int | None = None
    ) -> Tensor | None:
        """The picture in that place, with forward's noise at that level, or drawn.

        Args:
            x: images.
            view: the place.
            level: of normal noise.
            size: of that alone of which so many numbers are drawn for an image.
        """
        return self._run(view.call, view.units, x, level, size)[0].get(view)

    def pictures(self, x: Tensor, call: str) -> list[tuple[View, Tensor]]:
        """All that forward gives, with its noise at 0."""
        return list(self._run(call, _DECLARED, x, 0.0)[0].items())

    def in_any_units(self, x: Tensor) -> list[tuple[View, Tensor]]:
        """All that forward gives in any form, of images in any units, with its noise at 0."""
        found = (self._run(*one, x, 0.0)[0].items() for one in product(self.calls, self._units))
        return [*chain.from_iterable(found)]

    def codes(self, x: Tensor, view: View) -> Iterator[tuple[Tensor, str]]:
        """The first of each two of one shape in forward's output, and how to write what is taken.

        Forward often hands back (picture, mean, log-variance). Where it never draws such numbers,
        nothing says that the second is a spread, and the first alone is taken.
        """
        if view.units != _DECLARED:
            return
        own = own_images(self._model, x, None)
        with suppress(Exception):  # other people's code
            outputs, drawn = self._outputs(view.call, own, 0.0)
            first = outputs[0]
            if not isinstance(first, (Mapping, list, tuple)):
                return
            for one, two in pairwise(first if isinstance(first, Mapping) else range(len(first))):
                mean, spread = (_joined([o[key] for o in outputs]) for key in (one, two))
                if mean is not None and spread is not None and mean.shape == spread.shape:
                    if not drawn:  # many draw in training alone
                        drawn = self.in_training()._outputs(view.call, own, 0.0)[1]
                    alone = f"{view.call}[{one!r}]"
                    pair = f"(lambda o: (o[{one!r}], o[{two!r}]))({view.call})"
                    is_drawn = any(count and count % mean.numel() == 0 for count in drawn)
                    yield mean.float(), pair if is_drawn else alone

    def numbers(self, x: Tensor, view: View) -> list[Tensor]:
        """What forward hands back, such as the code's mean and spread, with its noise at 0."""
        own = own_images(self._model, x, None)
        with suppress(Exception):  # other people's code
            return [*held_in(self._outputs(view.call, own, 0.0)[0]).values()]
        return []

    def _outputs(
        self, call: str, own: Tensor, level: float | None, size: int | None = None
    ) -> tuple[list[Any], tuple[int, ...]]:
        """What forward gives for each piece of a batch that it takes at once, and what it draws."""
        outputs, drawn = [], []
        with kept(self._module) as written:
            for piece in own.split(self._model.max_batch or len(own)):
                noise = HeldNoise(level, None if size is None else size * len(piece))
                manner = Manner(self._module)  # a method for inference may end in train()
                # Some forwards take a gradient of their own.
                with noise, torch.enable_grad():
                    # A copy, as some work in place on what they are given.
                    given = piece.detach().requires_grad_().clone()
                    try:
                        outputs.append(self._way.of(self._module)(*self.calls[call](given)))
                    finally:
                        manner.put_back()
                drawn.append(noise.drawn)
        self.writes.update(dict.fromkeys(written))
        # How often it draws may hang on the images: what all pieces draw is what counts.
        return outputs, tuple(map(sum, zip(*drawn, strict=False)))

    def _run(
        self, call: str, units: str, x: Tensor, level: float | None, size: int | None = None
    ) -> tuple[dict[View, Tensor], tuple[int, ...]]:
        mean, std = (x.new_tensor(u).view(-1, 1, 1) for u in self._units[units])
        if len(mean) not in (1, x.shape[1]):
            return {}, ()
        own = (x - mean) / std
        own = own.to(precision_of(None, self._module, "encoder"))
        try:
            outputs, noise = self._outputs(call, own, level, size)
            pieces = own.split(self._model.max_batch or len(own))
            each = [
                dict(pictures_in(output, tuple(piece.shape), call))
                for output, piece in zip(outputs, pieces, strict=True)
            ]
            held = {path: torch.cat([e[path] for e in each]) for path in each[0]}
        except Exception as problem:  # other people's code, given what it may not take
            if call == next(iter(self.calls)):
                self.why = f"its {self.name} fails on the images alone ({explain(problem)})"
                # Of a wrong type are arguments where it takes something else, such as labels too.
                elsewhere = isinstance(problem, (TypeError, NotImplementedError))
                self.fails = not (elsewhere or self._adapted or _is_of_torch(self._module))
            return {}, ()
        found = {}
        for path, image in held.items():
            given = image.detach().to(x.device).double()
            if apart(given, own) <= 1e-6 or not given.isfinite().all():
                continue  # the input, handed back beside the reconstruction; or none at all
            if units == _DECLARED and self._is_of_codes(x, own, given):
                self.why, self.fails = f"its {self.name} leads from images to codes or back", False
                continue
            if image.is_floating_point():
                found[View(call, units, path, "own")] = given * std + mean
                scaled = in_each_scale(given).items()
                found |= {View(call, units, path, scale): pixels for scale, pixels in scaled}
            elif not self._exact:
                found[View(call, units, path, WHOLE)] = given / 255
        if not held and not (self._adapted or _is_of_torch(self._module)):
            self.fails, self.is_blank = False, True  # whatever it said of another form
            self.why = (
                f"its forward gives {describe(outputs[0])} and no picture of the input's shape"
            )
        return found, noise

    def _is_of_codes(self, x: Tensor, own: Tensor, given: Tensor) -> bool:
        """Whether numbers are the images' code, or what decode makes of images taken for codes.

        A flow's forward goes one way, from images to codes of their size or back.

        Args:
            x: images in [0, 1].
            own: they, as forward was given them.
            given: what it made of them, in the module's own range.
        """
        model, (low, high) = self._model, self._range
        if model.deploy is not None or model.condition is not None:
            return False

        def is_near(numbers: Tensor, other: Tensor) -> bool:
            numbers, other = numbers.flatten(1), other.double().flatten(1)
            return torch.allclose(numbers, other, rtol=0, atol=tolerance_of(model))

        with suppress(Exception), HeldNoise(0.0):  # other people's code
            code, pixels = model.encode(x).mode(), (given - low) / (high - low)
            if code[0].numel() != own[0].numel() or is_near(pixels, model.decode(code)):
                return False
            taken = own.to(code.dtype).reshape(code.shape)
            return is_near(given, code) or is_near(pixels, model.decode(taken))
        return False


def _is_of_torch(module: nn.Module) -> bool:
    """Whether a module is a mere layer or a list, which holds what functions of one's own use."""
    return type(module).__module__.startswith("torch.nn")


def _copied(module: nn.Module) -> nn.Module:
    """A deep copy; of what cannot be copied, as it holds a lock, one that has parts of its own."""
    try:
        return copy.deepcopy(module)
    except Exception:  # other people's objects
        return _double(module)


def _double(module: nn.Module) -> nn.Module:
    """A module with the same weights, whose attributes and modes can be set without a trace."""
    other: nn.Module = object.__new__(type(module))
    parts = {n: None if part is None else _double(part) for n, part in module._modules.items()}
    held = {"_parameters": dict(module._parameters), "_buffers": dict(module._buffers)}
    vars(other).update(vars(module) | held | {"_modules": parts})
    return other


def _joined(pieces: list[Any]) -> Tensor | None:
    """Tensors as one; None where that is not what they are."""
    if not all(isinstance(piece, Tensor) for piece in pieces):
        return None
    return pieces[0].detach() if len(pieces) == 1 else torch.cat(pieces).detach()


def apart(image: Tensor, ours: Tensor) -> float:
    """The largest difference of forward's image and ours; clipped where forward's may be."""
    inside = bool(image.min() >= 0) and bool(image.max() <= 1)
    ours = ours.clamp(0, 1) if inside else ours
    return float((image.double() - ours.double()).abs().max().nan_to_num(torch.inf))


def is_clipped(image: Tensor, ours: Tensor, allowed: float) -> bool:
    """Whether ours is forward's image with all beyond [0, 1] cut off."""
    inside = bool(ours.min() >= 0) and bool(ours.max() <= 1)
    return inside and apart(image.clamp(0, 1), ours) <= allowed
