"""A module's functions, in its own range and precision, as those of a model of images in [0, 1]."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.models.inputs import probe_images
from genrobust.models.reading.adapters import Reader
from genrobust.models.reading.conditional import Conditional
from genrobust.models.reading.decoded import image_of
from genrobust.models.reading.forward import Alone, Forward
from genrobust.models.reading.held_noise import released
from genrobust.models.reading.modules import halves_within, has_forward, method, unwrapped
from genrobust.models.reading.precision import Passage, precision_of
from genrobust.models.reading.typed import Typed
from genrobust.posterior import Posterior
from genrobust.reach import Uncounted
from genrobust.seeding import seeded

#: How many images an encoder is tried with whose output does not say what it holds: a number that
#: no other dimension is likely to have.
TRIED = 5


class Functions(NamedTuple):
    """What a module works by: images and codes in its own range and precision.

    ``alone``: its ``forward`` is all that is known of it.
    """

    encode: Callable[..., Any]
    decode: Callable[..., Any]
    deploy: Callable[[Tensor], Any] | None
    alone: bool = False

    @staticmethod
    def of(
        module: nn.Module,
        encode: Callable[[Tensor], Any] | None,
        decode: Callable[[Tensor], Any] | None,
        deploy: Callable[[Tensor], Any] | None,
    ) -> Functions:
        """Those that are given, else the module's.

        Raises:
            GenrobustError: one of the halves is lacking.
        """
        encoder = encode or method(module, "encode", "encoder")
        decoder = decode or method(module, "decode", "decoder")
        alone = isinstance(encode, nn.Identity) or (encoder is None and decoder is None)
        whole = decode or deploy or (module if has_forward(module) else None)
        if alone and whole is not None:  # the image is its own code
            return Functions(_itself, Alone(whole), None if whole is deploy else deploy, True)
        if encoder is None or decoder is None:
            raise _lacking(module, "encode" if encoder is None else "decode")
        return Functions(encoder, decoder, deploy)


class Within:
    """A frozen module's functions as those of a model, whose images are in [0, 1] and float32.

    Args:
        name: of the model, for sentences.
        module: in the mode in which it is attacked.
        functions: its own.
        conditional: they, with the labels that they take; None if they take none.
        shape: of an image.
        value_range: lowest and highest pixel that the module works with.
        typed: how its halves are written.
        max_batch: the most images that the module takes at once; None: any.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        functions: Functions,
        conditional: Conditional | None,
        shape: tuple[int, int, int],
        value_range: tuple[float, float],
        typed: Typed,
        max_batch: int | None,
    ) -> None:
        self._name, self._module, self._functions = name, module, functions
        self._conditional = conditional
        self._encoding = Forward(conditional.encode if conditional else functions.encode)
        self._deploying = Forward(functions.deploy) if functions.deploy else None
        self._shape, self._flat = shape, _flat(shape)
        self._low, self._high = value_range
        self._is_unit = value_range == (0, 1)
        # All but what has no other mode, as an exported program.
        self._resting = [part for part in module.modules() if not part.training]
        now = _halves_of(module)
        # A property may make another one each time.
        self._halves = {half: own for half, own in _halves_of(module).items() if own == now[half]}
        self._typed, self._trials = typed, count()
        self._tried = Uncounted(min(TRIED, max_batch or TRIED))
        self._read = Reader(self._try_once, self._say)

    def encode(self, x: Tensor) -> Posterior:
        passage = self._entering(x, self._functions.encode)
        with self._typed.spoken():
            posterior = self._posterior(self._encoding(passage.inside))
        posterior = posterior.map(lambda tensor: _beside(x, tensor, "the encoder"))
        return passage.leave_posterior(posterior)

    def decode(self, code: Tensor) -> Tensor:
        self._require_as_wrapped()
        function = self._functions.decode
        passage = Passage(code, precision_of(function, self._module, "decoder"))
        if self._conditional is None:
            output = function(self._read.for_decoder(passage.inside))
        else:
            output = self._conditional.decode(passage.inside, self._read.for_decoder)
        return self._image(output, passage, code, "the decoder", "decode")

    def _posterior(self, encoded: Any) -> Posterior:
        if self._conditional is None:
            return self._read(encoded)
        output, label = encoded
        return self._conditional.joined(self._read(output), label)

    def deploy(self, x: Tensor) -> Tensor:
        assert self._deploying is not None
        passage = self._entering(x, self._functions.deploy)
        return self._image(self._deploying(passage.inside), passage, x, "deploy=", "deploy")

    def _require_as_wrapped(self) -> None:
        if any(part.training for part in self._resting):
            which = "the module" if self._module.training else "a part of the module"
            raise GenrobustError(
                f"{which} of '{self._name}' is in train mode again, where batch norm and "
                "dropout make another model of it; call its eval() first (genrobust.attack and "
                "bench do, and put it back)"
            )
        for half, now in _halves_of(self._module).items():
            if self._halves.get(half, now) != now:
                raise GenrobustError(
                    f"the {half}r of '{self._name}' is another than when it was wrapped; wrap the "
                    "module again"
                )

    def _entering(self, x: Tensor, function: object) -> Passage:
        self._require_as_wrapped()
        # A copy in any case: what the module does to it in place stays there.
        inside = x.clone() if self._is_unit else x * (self._high - self._low) + self._low
        return Passage(inside, precision_of(function, self._module, "encoder"))

    def _image(self, output: Any, passage: Passage, given: Tensor, who: str, key: str) -> Tensor:
        with self._typed.spoken():
            found = image_of(output, who, key, (len(given), *self._shape))
        (image,) = passage.leave(_beside(given, found, who))
        image = image.clone() if self._is_unit else (image - self._low) / (self._high - self._low)
        return image.reshape(-1, *self._shape) if image.shape[1:] in self._flat else image

    def _try_once(self) -> Any:
        device = next(self._module.parameters(), torch.empty(0)).device
        with torch.no_grad(), released(), seeded(device, "trial", next(self._trials)):
            few = probe_images(self._shape, self._tried.value).to(device)
            encoded = self._encoding(self._entering(few, self._functions.encode).inside)
            return encoded if self._conditional is None else encoded[0]

    def _say(self, what: str) -> None:
        warnings.warn(f"{self._name}: {self._typed.put(what)}", GenrobustWarning, stacklevel=2)


def _halves_of(module: nn.Module) -> dict[str, Callable[..., Any]]:
    """A module's own encoder and decoder, which may be replaced."""
    found = {half: method(module, half, f"{half}r") for half in ("encode", "decode")}
    return {half: own for half, own in found.items() if own is not None}


def _itself(x: Tensor) -> Tensor:
    return x


def _flat(shape: tuple[int, int, int]) -> set[tuple[int, ...]]:
    """The shapes in which an image's pixels are in its own order: no patches, no channels last."""
    channels, height, width = shape
    pixels = channels * height * width
    flat = {(pixels,), (1, pixels), (channels, height * width)}
    return flat | {(height, width), (pixels, 1)} if channels == 1 else flat


def _lacking(module: nn.Module, what: str) -> GenrobustError:
    listed = hasattr(unwrapped(module), f"{what}r")
    kind = f"{type(module).__name__} has neither '{what}' nor '{what}r'"
    line = halves_within(module) or f"pass {what}=, a function that {what}s a batch"
    forward = ", or encode=torch.nn.Identity() to read it by its forward alone"
    return GenrobustError(
        f"{kind}{' that can be called' if listed else ''}; {line}"
        f"{forward if has_forward(module) else ''}"
    )


def _beside(given: Tensor, output: Tensor, who: str) -> Tensor:
    """What a function gave, in the precision of what it was given.

    Raises:
        GenrobustError: it is on another device.
    """
    if output.device != given.device:
        raise GenrobustError(
            f"{who} gave a tensor on '{output.device}' for one on '{given.device}'; keep what it "
            "makes where its input is, such as torch.zeros(3, device=x.device)"
        )
    return output.to(given.dtype)
