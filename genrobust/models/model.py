"""GenerativeModel: the one face that every encoder-decoder shows to the rest of the library."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from genrobust import files
from genrobust.errors import GenrobustError
from genrobust.foreign import Call
from genrobust.posterior import Posterior

Result = TypeVar("Result")

Surrogate = Literal["deployed", "softmax", "straight-through"]


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
        spec: what the fingerprint covers besides the weights.
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
    spec: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.max_batch is not None and self.max_batch < 1:
            raise GenrobustError(
                f"a model cannot take {self.max_batch} images at once; give max_batch, or "
                "--batch-size, as 1 or more"
            )

    def encode(self, x: Tensor) -> Posterior:
        """q(code | x).

        Raises:
            GenrobustError: the model's code failed, or gave no code an image.
        """
        found = self._piecewise(self.encoder, "encode", x)
        for posterior, piece in zip(found, self._pieces(x), strict=True):
            self._require_codes(posterior, len(piece))
        return found[0] if len(found) == 1 else _joined(found)

    def decode(self, code: Tensor) -> Tensor:
        """The mean image of each code, before any clamp.

        Raises:
            GenrobustError: the model's code failed, or gave no image a code.
        """
        return self._images(self.decoder, "decode", "the decoder", code)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The deployed reconstruction: of the posterior's mode, clipped if the deployment does.

        A random deployment gives one draw from the process's generators.

        Raises:
            GenrobustError: the model's code failed, or gave no image an image.
        """
        if self.deploy is None:
            image = self.decode(self.encode(x).mode())
        else:
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

    def _require_codes(self, posterior: Posterior, count: int) -> None:
        for part in posterior.parts:
            for tensor in (getattr(part, f.name) for f in fields(part)):  # type: ignore[arg-type]
                if tensor.shape[:1] != (count,):
                    raise GenrobustError(
                        f"the encoder gave a tensor of shape {tuple(tensor.shape)} for {count} "
                        f"images ('{self.name}'); it must give one code an image, batch first"
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
                    "a function that gives images of that shape"
                )
        return found[0] if len(found) == 1 else torch.cat(found)

    def _piecewise(
        self, function: Callable[[Tensor], Result], what: str, batch: Tensor
    ) -> list[Result]:
        """What the model's code gives for each piece of a batch."""
        found, pieces = [], self._pieces(batch)
        # A gradient computes each piece once more in place of remembering all of them.
        again = len(pieces) > 1 and self.draws == 1 and batch.requires_grad
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
        """sha256 of the spec and the weights: two models with one fingerprint are the same."""
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
        return hashlib.sha256(f"{spec}\n{weights}".encode()).hexdigest()


def _joined(pieces: list[Posterior]) -> Posterior:
    """The posterior of a batch from those of its pieces."""
    parts = []
    for same in zip(*(posterior.parts for posterior in pieces), strict=True):
        names = [f.name for f in fields(same[0])]
        values = (torch.cat([getattr(part, name) for part in same]) for name in names)
        parts.append(type(same[0])(*values))
    return Posterior(tuple(parts))
