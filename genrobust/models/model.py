"""GenerativeModel: the one face that every encoder-decoder shows to the rest of the library."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from genrobust import files
from genrobust.arguments import whole
from genrobust.errors import GenrobustError
from genrobust.foreign import Call
from genrobust.models.passes import count
from genrobust.models.reading.modules import is_scripted, part_called
from genrobust.models.reading.typed import Typed
from genrobust.models.straight import straight_through
from genrobust.posterior import Posterior
from genrobust.reach import Reach, reach
from genrobust.seeding import generator, seeded

Result = TypeVar("Result")

#: In the spec of a model that has no encoder: its images are their own codes.
FORWARD_ALONE = "forward alone"

#: What to type of codes whose first dimension is another than that of the batch.
STEPS_FIRST = (
    ", such as lambda x: module.encode(x)[-1] for the last of steps, or "
    "lambda x: module.encode(x).transpose(0, 1) for all, with "
    "decode=lambda z: module.decode(z.transpose(0, 1))"
)

Surrogate = Literal["deployed", "softmax", "straight-through"]

#: By how much further some pixels are put inside than others.
UNEVEN = 0.1


def images_at_once(given: int | None) -> int | None:
    """How many images a model takes at once; None for any number.

    Raises:
        GenrobustError: it is no whole number, or below 1.
    """
    if given is None:
        return None
    most = whole("max_batch", given, 64)
    if most < 1:
        raise GenrobustError(
            f"a model cannot take {most} images at once; give max_batch, or --batch-size, as 1 or "
            "more"
        )
    return most


@dataclass(frozen=True, eq=False)
class GenerativeModel:
    """An encoder and a decoder in genrobust's terms; made by :func:`genrobust.wrap`.

    Images are (B, C, H, W) in [0, 1]. There are two paths from an image to its reconstruction:
    the *deployed* one (``reconstruct``), on which alone models are scored, and *surrogate* ones
    (``surrogate``), which attacks may differentiate through where the deployed path has no
    gradient: through a categorical's argmax, or a clamp.

    Args:
        name: for tables and folders.
        module: the user's module: holds the weights, decides the device.
        input_shape: (channels, height, width).
        encoder: images to posterior.
        decoder: codes to mean images, in [0, 1] up to what ``clamp`` clips.
        clamp: the deployment clips reconstructions to [0, 1].
        deploy: images to the reconstructions that the deployment gives, where that is not
            ``decode(encode(x).mode())``; it is scored and never differentiated.
        draws: how often a random deployment is drawn; 1 says that it is not random.
        differentiable: whether gradients reach the image through encoder and decoder.
        max_batch: the most images or codes that it takes at once; larger batches go through it in
            pieces, and of each only the gradient's own is in memory. None for any number.
        edge: for each channel, how far inside [0, 1] black and white pixels are put where a
            gradient is asked for, as the model gives none at the edge; see
            :func:`genrobust.models.checks.edges.with_edges`. Empty where it gives one.
        straight: parts of the module through which a gradient is passed straight, as they cut it;
            see :mod:`genrobust.models.straight`.
        condition: of a conditional model, images in the module's own range to the labels that its
            own functions take; in its codes they are the last part.
        spec: what the fingerprint covers besides the weights.
        typed: how its halves are written in a line that is to be typed.
        part: the part of the module whose own halves are read, by name; none for the module itself.

    Example:
        >>> import genrobust
        >>> model = genrobust.load_model("jointvae")
        >>> x = genrobust.load_images("digits").take([0, 1])
        >>> model.encode(x).describe(), model.reconstruct(x).shape, model.draws
        ('10 Gaussian + one 10-way categorical', torch.Size([2, 1, 32, 32]), 1)
    """

    name: str
    module: nn.Module
    input_shape: tuple[int, int, int]
    encoder: Callable[[Tensor], Posterior] = field(repr=False)
    decoder: Callable[[Tensor], Tensor] = field(repr=False)
    clamp: bool = False
    deploy: Callable[[Tensor], Tensor] | None = field(default=None, repr=False)
    draws: int = 1
    differentiable: bool = True
    max_batch: int | None = None
    edge: tuple[tuple[float, float], ...] = ()
    straight: tuple[str, ...] = ()
    condition: Callable[[Tensor], Tensor] | None = field(default=None, repr=False)
    spec: dict[str, Any] = field(default_factory=dict)
    typed: Typed = field(default=Typed(), repr=False)
    part: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_batch", images_at_once(self.max_batch))

    @property
    def network(self) -> nn.Module:
        """What is read: the module, or the part of it whose own halves are."""
        return part_called(self.module, self.part)

    def encode(self, x: Tensor) -> Posterior:
        """q(code | x).

        Raises:
            GenrobustError: x is no tensor; the model's code failed, or gave no code an image.
        """
        _require_tensor("encode", x)
        count(len(x))
        x = self._inside(x)
        found = self._piecewise(self.encoder, "encode", x)
        for posterior, piece in zip(found, self._pieces(x), strict=True):
            self._require_codes(posterior, len(piece))
        return found[0] if len(found) == 1 else Posterior.joined(found)

    def decode(self, code: Tensor) -> Tensor:
        """The mean image of each code, before any clamp.

        Raises:
            GenrobustError: code is no tensor; the model's code failed, or gave no image a code.
        """
        _require_tensor("decode", code)
        return self._images(self.decoder, "decode", "the decoder", code)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The deployed reconstruction: of the posterior's mode, clipped if the deployment does.

        A random deployment gives one draw from the process's generators.

        Raises:
            GenrobustError: x is no tensor; the model's code failed, or gave no image an image.
        """
        _require_tensor("reconstruct", x)
        if self.deploy is None:
            image = self.decode(self.encode(x).mode())
        else:
            count(len(x))
            image = self._images(self.deploy, "deploy", "deploy=", x)
        return image.clamp(0, 1) if self.clamp else image

    def surrogate(self, x: Tensor, kind: Surrogate, temperature: float = 1.0) -> Tensor:
        """A reconstruction to differentiate through: no clamp, and the named surrogate code."""
        posterior = self.encode(x)
        if kind == "softmax":
            return self.decode(posterior.relaxed(temperature))
        if kind == "straight-through":
            return self.decode(posterior.straight_through())
        return self.decode(posterior.mode())

    def _inside(self, x: Tensor) -> Tensor:
        """Images whose gradient is that of a hair inside, where one is asked for."""
        if self.edge and x.requires_grad and torch.is_grad_enabled():
            return x + (inside(x, x.new_tensor(self.edge)) - x).detach()
        return x

    def _require_codes(self, posterior: Posterior, count: int) -> None:
        for tensor in posterior.tensors():
            if tensor.shape[:1] != (count,):
                steps = tensor.shape[1:2] == (count,)
                raise GenrobustError(
                    f"the encoder gave a tensor of shape {tuple(tensor.shape)} for {count} "
                    f"images ('{self.name}'); it must give one code an image, batch first: pass "
                    f"encode=, a function that does{self.typed.put(STEPS_FIRST) if steps else ''}"
                )

    def _images(
        self, function: Callable[[Tensor], Tensor], what: str, who: str, batch: Tensor
    ) -> Tensor:
        found = self._piecewise(function, what, batch)
        for image, piece in zip(found, self._pieces(batch), strict=True):
            wanted = (len(piece), *self.input_shape)
            if image.shape != wanted:
                raise GenrobustError(
                    f"{who} gave shape {tuple(image.shape)} for images of shape {wanted} "
                    f"('{self.name}'); pass the input_shape the model was trained on, or {what}=, "
                    f"a function that gives images of that shape{self._last(what, image, wanted)}"
                )
        return found[0] if len(found) == 1 else torch.cat(found)

    def _last(self, what: str, image: Tensor, wanted: tuple[int, ...]) -> str:
        """What to type where several images are given in place of one, such as steps."""
        shape = tuple(image.shape)
        grey = {(3, 1): ".mean(1, keepdim=True)", (1, 3): ".expand(-1, 3, -1, -1)"}
        if what == "decode" and len(shape) == 4 and shape[2:] == wanted[2:]:
            turned = grey.get((shape[1], wanted[1]))
            if turned is not None:
                return self.typed.put(f", such as lambda z: module.decode(z){turned}")
        places = {"[-1]": shape[1:], "[:, -1]": (*shape[:1], *shape[2:])}
        place = next((place for place, one in places.items() if one == wanted), None)
        if what != "decode" or place is None:
            return ""
        return self.typed.put(f", such as lambda z: module.decode(z){place} for the last of them")

    def _piecewise(
        self, function: Callable[[Tensor], Result], what: str, batch: Tensor
    ) -> list[Result]:
        """What the model's code gives for each piece of a batch."""
        found, pieces = [], self._pieces(batch)
        if self.straight and batch.requires_grad and torch.is_grad_enabled():
            function = straight_through(function, self.module, self.straight)
        # A gradient computes each piece once more in place of remembering all of them.
        again = len(pieces) > 1 and self.draws == 1 and batch.requires_grad
        again = again and not is_scripted(self.module)
        for piece in pieces:
            with Call(self.name, what, piece):
                if again and torch.is_grad_enabled():
                    found.append(
                        checkpoint(function, piece, use_reentrant=False, preserve_rng_state=False)
                    )
                else:
                    found.append(function(piece))
        return found

    def _pieces(self, batch: Tensor) -> tuple[Tensor, ...]:
        return (batch,) if self.max_batch is None else batch.split(self.max_batch)

    def at_most(self, images: int | None) -> GenerativeModel:
        """The same model, through which no more images go at once than that."""
        if images is None or (self.max_batch is not None and self.max_batch <= images):
            return self
        return replace(self, max_batch=images)

    def keyed(self, *key: object) -> AbstractContextManager[None]:
        """Within it, what a random model draws is keyed; others draw nothing."""
        return nullcontext() if self.draws == 1 else seeded(self.device, *key)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        tensor = next(self.module.parameters(), None)
        return tensor.device if tensor is not None else torch.device("cpu")

    @property
    def parameters(self) -> int:
        """How many numbers the model has learned."""
        return sum(p.numel() for p in self.module.parameters())

    def fingerprint(self) -> str:
        """sha256 of the spec and of all numbers that the model works with.

        Those are the weights, and any other tensor or numeric array that its functions reach: of a
        second module, in a closure, in a global, in an attribute. See
        :mod:`genrobust.models.identity` for what tells apart models that have these in common.
        """
        weights = files.sha256_of_tensors(self.module.state_dict())
        spec = json.dumps(
            {
                **self.spec,
                "input_shape": self.input_shape,
                "clamp": self.clamp,
                "draws": self.draws,
            },
            sort_keys=True,
        )
        beyond = self._tensors_beyond()
        more = f"\n{files.sha256_of_tensors(beyond)}" if beyond else ""
        return hashlib.sha256(f"{spec}\n{weights}{more}".encode()).hexdigest()

    def reach(self) -> Reach:
        """The code and the tensors that the model's functions reach."""
        functions = {"encode": self.encoder, "decode": self.decoder, "deploy": self.deploy}
        return reach({"module": self.module, **functions})

    def _tensors_beyond(self) -> dict[str, Tensor]:
        """What the functions reach and the state dict does not hold, but for what they keep.

        A module may keep something of its last batch; that is nothing of its own, and it is told
        by another batch.
        """
        found = self._reached_beyond()
        if found:
            for key in ("one", "another"):
                before, found = found, self._reached_beyond_after(key)
            kept = {n for n, t in found.items() if n in before and _is_same(t, before[n])}
            found = {name: found[name] for name in sorted(kept)}
        return found

    def _reached_beyond_after(self, key: str) -> dict[str, Tensor]:
        images = torch.rand(2, *self.input_shape, generator=generator("reach", key))
        # A model that fails here is refused by its check, in words.
        with torch.no_grad(), suppress(Exception), seeded(self.device, "reach"):
            self.reconstruct(images.to(self.device))
        return self._reached_beyond()

    def _reached_beyond(self) -> dict[str, Tensor]:
        state = [_extent(t) for t in self.module.state_dict().values() if isinstance(t, Tensor)]
        return {
            name: tensor
            for name, tensor in self.reach().tensors.items()
            if not any(
                low <= _extent(tensor)[0] < _extent(tensor)[1] <= high for low, high in state
            )
        }


def inside(x: Tensor, margins: Tensor) -> Tensor:
    """Images (B, C, H, W), in which no pixel is nearer to 0 or 1 than its channel's margins (C, 2).

    Each is put a little further, and not all as far: a model that starts from an image's lowest
    pixel would see nothing where all that are lowest rise alike.

    >>> x = torch.tensor([0.0, 0.0, 0.5, 1.0]).view(1, 1, 1, 4)
    >>> black, other, grey, white = inside(x, torch.tensor([[0.1, 0.2]])).flatten().tolist()
    >>> 0.1 < black < 0.11, 0.1 < other < 0.11, black == other, grey, 0.78 < white < 0.8
    (True, True, False, 0.5, True)
    """
    low, high = (margins[:, :, None, None] * _depths(x.shape[1:]).to(x)[:, None]).unbind(1)
    return x.maximum(low).minimum(1 - high)


@cache
def _depths(shape: torch.Size) -> Tensor:
    return 1 + UNEVEN * torch.rand(shape, generator=generator("depths"))


def _require_tensor(what: str, given: object) -> None:
    if not isinstance(given, Tensor):
        held = "its mode()" if isinstance(given, Posterior) else "torch.from_numpy(array).float()"
        raise GenrobustError(
            f"{what} is given a {type(given).__name__}; give a tensor, such as {held}"
        )


def _extent(tensor: Tensor) -> tuple[int, int]:
    """Where a tensor's numbers lie in memory: first byte, and the one after the last."""
    if tensor.layout != torch.strided or not tensor.numel():
        return 0, 0
    sides = zip(tensor.shape, tensor.stride(), strict=True)
    last = sum((size - 1) * step for size, step in sides)
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()


def _is_same(one: Tensor, other: Tensor) -> bool:
    return files.sha256_of_tensors({"": one}) == files.sha256_of_tensors({"": other})
