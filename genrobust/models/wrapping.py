"""wrap(): any torch module with an encoder and a decoder, as a GenerativeModel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from genrobust.errors import GenrobustError
from genrobust.models.adapters import image_of, posterior_of
from genrobust.models.check import check_model
from genrobust.models.model import GenerativeModel
from genrobust.posterior import Posterior
from genrobust.projects import plain_name


def wrap(
    module: nn.Module,
    *,
    encode: Callable[[Tensor], Any] | None = None,
    decode: Callable[[Tensor], Any] | None = None,
    input_shape: tuple[int, int, int] | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    clamp: bool = False,
    deploy: Callable[[Tensor], Any] | None = None,
    draws: int = 1,
    differentiable: bool = True,
    name: str | None = None,
) -> GenerativeModel:
    """Make a module attackable: put it in eval mode, freeze it, find its posterior, check it.

    What ``encode`` (or ``encoder``) returns decides the posterior: (mean, log-variance) as tuple
    or list; joint-vae's ``{'cont': [mean, logvar], 'disc': [probabilities]}``; diffusers'
    ``latent_dist``; pythae's ``ModelOutput``; a ``torch.distributions`` object; a tensor (a plain
    autoencoder's point); or a :class:`genrobust.Posterior`. ``decode`` (or ``decoder``) returns
    images as a tensor, ``sample``, ``reconstruction`` or a distribution, whose mean is taken.

    Args:
        module: the trained module; it is changed (``eval()``, no gradients of weights).
        encode: images in the module's own range to any of the forms above; default
            ``module.encode``, else ``module.encoder``.
        decode: codes (B, latents), or the posterior mean's own shape, to images; default
            ``module.decode``, else ``module.decoder``.
        input_shape: (channels, height, width); default the module's ``input_shape`` or
            ``img_size``.
        value_range: lowest and highest pixel the module works with, such as (-1, 1).
        clamp: clip reconstructions to that range, as the deployment does. Attacks still
            differentiate through the unclipped image.
        deploy: images in the module's own range to the reconstructions that the deployment really
            gives, where that is not ``decode`` of the posterior's mode: with a quantised input, a
            purified one, a sampled code. It is what is scored. Attacks differentiate through
            ``encode`` and ``decode`` in its place (Athalye, Carlini & Wagner 2018, BPDA).
        draws: for a deployment that draws random numbers, how often it is drawn for each score;
            attacks then follow the mean over as many draws (expectation over transformation).
        differentiable: False for a model through which no gradient reaches the image, with no
            stand-in for it at hand. Only attacks that need no gradient can do something then, and
            the record is flagged.
        name: for tables and folders; default the class's name.

    Returns:
        A model whose images are in [0, 1].

    Raises:
        GenrobustError: no encoder or decoder is found, or a check on a probe batch failed: of
            shapes, range, finiteness, determinism, independence of the batch, gradients.

    Example:
        >>> import torch, genrobust
        >>> class VAE(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.enc, self.dec = torch.nn.Linear(64, 8), torch.nn.Linear(4, 64)
        ...     def encode(self, x):
        ...         return self.enc(x.flatten(1)).chunk(2, 1)
        ...     def decode(self, z):
        ...         return self.dec(z).sigmoid().view(-1, 1, 8, 8)
        >>> model = genrobust.wrap(VAE(), input_shape=(1, 8, 8))
        >>> model.reconstruct(torch.rand(5, 1, 8, 8)).shape
        torch.Size([5, 1, 8, 8])
    """
    model = adapt(
        module,
        encode=encode,
        decode=decode,
        input_shape=input_shape,
        value_range=value_range,
        clamp=clamp,
        deploy=deploy,
        draws=draws,
        differentiable=differentiable,
        name=name,
    )
    check_model(model)
    return model


def adapt(
    module: nn.Module,
    *,
    encode: Callable[[Tensor], Any] | None = None,
    decode: Callable[[Tensor], Any] | None = None,
    input_shape: tuple[int, int, int] | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    clamp: bool = False,
    deploy: Callable[[Tensor], Any] | None = None,
    draws: int = 1,
    differentiable: bool = True,
    name: str | None = None,
) -> GenerativeModel:
    """:func:`wrap` without the checks."""
    if not isinstance(module, nn.Module):
        raise GenrobustError(
            f"wrap takes a torch.nn.Module, not a {type(module).__name__}; for functions pass the "
            "module that holds their weights, and encode= and decode="
        )
    if len(value_range) != 2 or not -math.inf < value_range[0] < value_range[1] < math.inf:
        raise GenrobustError(f"value_range is (lowest, highest) pixel, not {value_range}")
    if not isinstance(draws, int) or draws < 1:
        raise GenrobustError(f"draws is {draws}; it is 1, or more for a random deployment, as 16")
    low, high = value_range
    shape = _shape_of(module, input_shape)
    run_encoder = encode or _method(module, "encode", "encoder")
    run_decoder = decode or _method(module, "decode", "decoder")
    module.eval().requires_grad_(False)

    def encoder(x: Tensor) -> Posterior:
        return posterior_of(run_encoder(x * (high - low) + low))

    def to_image(output: Any) -> Tensor:
        image = (image_of(output) - low) / (high - low)
        fits = image.ndim == 2 and image[0].numel() == torch.Size(shape).numel()
        return image.view(-1, *shape) if fits else image

    def decoder(code: Tensor) -> Tensor:
        return to_image(run_decoder(code))

    kind = f"{plain_name(type(module).__module__)}.{type(module).__qualname__}"
    spec = {
        "class": kind.removeprefix("__main__."),
        "encode": _qualified_name(run_encoder),
        "decode": _qualified_name(run_decoder),
        "value_range": [low, high],
    }
    chosen = name or type(module).__name__
    if deploy is not None:
        spec["deploy"] = _qualified_name(deploy)
    return GenerativeModel(
        chosen,
        module,
        shape,
        encoder,
        decoder,
        clamp=clamp,
        deploy=None if deploy is None else lambda x: to_image(deploy(x * (high - low) + low)),
        draws=draws,
        differentiable=differentiable,
        spec=spec,
    )


def _method(module: nn.Module, *names: str) -> Callable[[Tensor], Any]:
    for name in names:
        found = getattr(module, name, None)
        if callable(found):
            method: Callable[[Tensor], Any] = found
            return method
    raise GenrobustError(
        f"{type(module).__name__} has neither '{names[0]}' nor '{names[1]}'; pass {names[0]}=, a "
        f"function that {names[0]}s a batch"
    )


def _shape_of(module: nn.Module, given: tuple[int, int, int] | None) -> tuple[int, int, int]:
    found: Any = given
    for name in ("input_shape", "img_size"):
        found = found if found is not None else getattr(module, name, None)
    if isinstance(found, int):
        found = None  # a side alone does not say how many channels
    if found is None:
        raise GenrobustError(
            f"the image shape of {type(module).__name__} is not known; pass "
            "input_shape=(channels, height, width), such as input_shape=(1, 32, 32)"
        )
    shape = tuple(int(n) for n in found)
    if len(shape) != 3 or min(shape) < 1:
        raise GenrobustError(f"input_shape is (channels, height, width), not {tuple(found)}")
    return shape[0], shape[1], shape[2]


def _qualified_name(function: Any) -> str:
    if isinstance(function, nn.Module):
        return type(function).__qualname__
    return getattr(function, "__qualname__", type(function).__qualname__)
