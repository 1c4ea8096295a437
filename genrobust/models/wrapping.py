"""wrap(): any torch module with an encoder and a decoder, as a GenerativeModel."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.models.adapters import Reader, image_of
from genrobust.models.check import check_model, probe_images
from genrobust.models.model import GenerativeModel
from genrobust.models.precision import Passage, precision_of
from genrobust.posterior import Posterior
from genrobust.projects import plain_name
from genrobust.seeding import seeded

#: How many images an encoder is tried with whose output does not say what it holds: a number that
#: no other dimension is likely to have.
TRIED = 5


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
    max_batch: int | None = None,
    name: str | None = None,
) -> GenerativeModel:
    """Make a module attackable: put it in eval mode, freeze it, find its posterior, check it.

    What ``encode`` (or ``encoder``) returns decides the posterior: (mean, log-variance) as tuple
    or list, also with a sample that is drawn anew each time, or is the mean, beside them;
    joint-vae's ``{'cont': [mean, logvar], 'disc': [probabilities]}``; diffusers' ``latent_dist``;
    pythae's ``ModelOutput``; a ``torch.distributions`` object; a tensor (a plain
    autoencoder's point); or a :class:`genrobust.Posterior`, one of its parts such as
    :class:`genrobust.Codebook`, or a list of these, the layers of a hierarchy: ``decode`` then
    takes a list of codes. ``decode`` (or ``decoder``) returns
    images as a tensor, ``sample``, ``reconstruction`` or a distribution, whose mean is taken. A
    module in half or double precision is given its own, and gives float32 back.

    Args:
        module: the trained module. It is put in eval mode and its weights are frozen, as ``encode``
            and its like may reach it by ways that a copy would not have; where the check fails, it
            is left as it was. :func:`genrobust.bench` gives it back as it was in any case.
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
        max_batch: the most images that the module takes at once, or that memory has room for;
            larger batches go through it in pieces, with the same results up to rounding.
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
    _require_module(module)
    put_back = _remembered(module)
    try:
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
            max_batch=max_batch,
            name=name,
        )
        check_model(model)
    except BaseException:
        put_back()
        raise
    return model


@contextmanager
def left_as_it_was(model: object) -> Iterator[None]:
    """Put a live module back at the end: where it is, what trains, what wants a gradient.

    Args:
        model: a module, a wrapped one, or something else, such as a name, of which nothing is kept.
    """
    module = model.module if isinstance(model, GenerativeModel) else model
    put_back = _remembered(module) if isinstance(module, nn.Module) else None
    try:
        yield
    finally:
        if put_back is not None:
            put_back()


def _remembered(module: nn.Module) -> Callable[[], None]:
    """What puts a module back to how it is now; the values of its weights are not its business."""
    parts = [(m, m.training, dict(m._parameters), dict(m._buffers)) for m in module.modules()]
    weights = [(p, p.data, p.requires_grad) for p in module.parameters()]

    def put_back() -> None:
        for part, training, parameters, buffers in parts:
            part.training = training
            part._parameters.update(parameters)
            part._buffers.update(buffers)
        for parameter, data, wants_gradient in weights:
            parameter.data = data
            parameter.requires_grad_(wants_gradient)

    return put_back


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
    max_batch: int | None = None,
    name: str | None = None,
) -> GenerativeModel:
    """:func:`wrap` without the checks."""
    _require_module(module)
    if len(value_range) != 2 or not -math.inf < value_range[0] < value_range[1] < math.inf:
        raise GenrobustError(f"value_range is (lowest, highest) pixel, not {value_range}")
    if not isinstance(draws, int) or draws < 1:
        raise GenrobustError(f"draws is {draws}; it is 1, or more for a random deployment, as 16")
    low, high = value_range
    shape = _shape_of(module, input_shape)
    run_encoder = encode or _method(module, "encode", "encoder")
    run_decoder = decode or _method(module, "decode", "decoder")
    module.eval()
    module.requires_grad_(False)  # on its own, as some modules' eval() returns nothing

    def entering(x: Tensor, function: object) -> Passage:
        return Passage(x * (high - low) + low, precision_of(function, module, "encoder"))

    trials = count()

    def try_once() -> Any:
        device = next(module.parameters(), torch.empty(0)).device
        with torch.no_grad(), seeded(device, "trial", next(trials)):
            return run_encoder(entering(probe_images(shape, TRIED).to(device), run_encoder).inside)

    def say(what: str) -> None:
        warnings.warn(f"{chosen}: {what}", GenrobustWarning, stacklevel=2)

    read = Reader(try_once, say)

    def encoder(x: Tensor) -> Posterior:
        passage = entering(x, run_encoder)
        posterior = read(run_encoder(passage.inside))
        posterior = posterior.map(lambda tensor: _beside(x, tensor, "the encoder"))
        return passage.leave_posterior(posterior)

    def to_image(output: Any, passage: Passage, given: Tensor, who: str, argument: str) -> Tensor:
        (image,) = passage.leave(_beside(given, image_of(output, who, argument), who))
        image = (image - low) / (high - low)
        fits = image.ndim == 2 and image[0].numel() == torch.Size(shape).numel()
        return image.view(-1, *shape) if fits else image

    def decoder(code: Tensor) -> Tensor:
        passage = Passage(code, precision_of(run_decoder, module, "decoder"))
        return to_image(
            run_decoder(read.for_decoder(passage.inside)), passage, code, "the decoder", "decode"
        )

    def deployed(x: Tensor) -> Tensor:
        assert deploy is not None
        passage = entering(x, deploy)
        return to_image(deploy(passage.inside), passage, x, "deploy=", "deploy")

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
        deploy=None if deploy is None else deployed,
        draws=draws,
        differentiable=differentiable,
        max_batch=max_batch,
        spec=spec,
    )


def _require_module(module: object) -> None:
    if not isinstance(module, nn.Module):
        raise GenrobustError(
            f"wrap takes a torch.nn.Module, not a {type(module).__name__}; for functions pass the "
            "module that holds their weights, and encode= and decode="
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
