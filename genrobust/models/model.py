"""GenerativeModel: the one face that every encoder-decoder shows to the rest of the library."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
from torch import Tensor, nn

from genrobust import files
from genrobust.errors import GenrobustError
from genrobust.foreign import Call
from genrobust.posterior import Posterior

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
    spec: dict[str, Any] = field(default_factory=dict)

    def encode(self, x: Tensor) -> Posterior:
        """q(code | x).

        Raises:
            GenrobustError: the model's code failed, or gave no code an image.
        """
        with Call(self.name, "encode", x):
            posterior = self.encoder(x)
        self._require_codes(posterior, len(x))
        return posterior

    def decode(self, code: Tensor) -> Tensor:
        """The mean image of each code, before any clamp.

        Raises:
            GenrobustError: the model's code failed, or gave no image a code.
        """
        with Call(self.name, "decode", code):
            image = self.decoder(code)
        return self._require_images(image, "the decoder", "decode", len(code))

    def reconstruct(self, x: Tensor) -> Tensor:
        """The deployed reconstruction: of the posterior's mode, clipped if the deployment does.

        A random deployment gives one draw from the process's generators.

        Raises:
            GenrobustError: the model's code failed, or gave no image an image.
        """
        if self.deploy is None:
            image = self.decode(self.encode(x).mode())
        else:
            with Call(self.name, "deploy", x):
                image = self.deploy(x)
            image = self._require_images(image, "deploy=", "deploy", len(x))
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

    def _require_images(self, image: Tensor, who: str, what: str, count: int) -> Tensor:
        wanted = (count, *self.input_shape)
        if image.shape != wanted:
            raise GenrobustError(
                f"{who} gave shape {tuple(image.shape)} for images of shape {wanted} "
                f"('{self.name}'); pass the input_shape the model was trained on, or {what}=, a "
                "function that gives images of that shape"
            )
        return image

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
